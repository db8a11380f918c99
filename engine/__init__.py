"""The training engine: usable from a script; never imports the screen and prints nothing."""
