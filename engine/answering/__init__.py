"""A run that answers: prompts, their answers as they come, and what they cost."""
