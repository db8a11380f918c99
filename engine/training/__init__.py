"""One run: model, loop, outcome."""
