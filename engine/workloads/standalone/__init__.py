"""Code that a script for elsewhere holds as it stands here: it imports nothing of traintop but its neighbours."""
