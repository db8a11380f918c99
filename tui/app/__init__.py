"""The app: what it is made of, and its start and end."""
