"""The forecast of a run that answers."""
