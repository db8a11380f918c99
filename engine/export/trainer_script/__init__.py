"""A run as a script for the Hugging Face Trainer that gives the run's own losses."""
