"""What a rank of a run on several GPUs allocates beside what one GPU alone would, and how long it waits for others."""
