"""What is trained on, one file a kind: rows or documents -> samples."""
