"""The user's own command: starting it, what is loaded into it, and what it tells."""
