"""The engine's threads, and who stands in for them."""
