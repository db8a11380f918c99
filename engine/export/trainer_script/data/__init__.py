"""The script's data: the same rows in the same order, read with `datasets`, and the same tokens. One file a kind."""
