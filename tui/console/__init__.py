"""Lines for people without the screen."""
