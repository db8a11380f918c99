"""Between the controllers and the terminal: painting at the pace of the link, answering, calling out, failing."""
