"""Files of the user's -> bytes, lines and tables, or one sentence that says why not."""
