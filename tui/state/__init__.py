"""What is shown, as pure values: events folded in."""
