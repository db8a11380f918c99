"""Knobs as texts, files and named configurations."""
