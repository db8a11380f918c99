"""Runs for elsewhere: Markdown, LaTeX, CSV, command lines, TrainingArguments."""
