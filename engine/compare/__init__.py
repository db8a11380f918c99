"""A run beside the baseline: differences, noise, explanations."""
