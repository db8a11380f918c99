"""The history of runs: one SQLite file."""
