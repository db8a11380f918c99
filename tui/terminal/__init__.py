"""The terminal underneath: driver, link, signals, ASCII."""
