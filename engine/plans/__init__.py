"""Plans: sweeps, searches, the lecture's experiments."""
