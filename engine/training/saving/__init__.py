"""What a run leaves on the disk: checkpoints to go on from, and the trained model."""
