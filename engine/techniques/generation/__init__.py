"""What makes answering faster: how keys and values are kept, and how tokens are guessed."""
