"""What a command names: its model, its settings, and so the training that it is."""
