"""Made-up text of each kind, for machines without any real text. Seeded; standard library only."""
