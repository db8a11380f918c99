"""Architectures by name: what their config.json says, as data."""
