"""Pure: values to rows of characters."""
