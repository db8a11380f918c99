"""GPUs: the catalogue of cards, and units."""
