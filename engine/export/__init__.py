"""Runs for elsewhere: Markdown, LaTeX, CSV, command lines, scripts for the Trainer."""
