"""Text -> token ids: vocabularies, and what was made kept for the next run."""
