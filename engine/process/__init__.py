"""What belongs to the whole process rather than to a thread: one gate for it, and the imports that must stay light."""
