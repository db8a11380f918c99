"""What a configuration would need, before it runs."""
