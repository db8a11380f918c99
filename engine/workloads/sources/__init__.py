"""Where text comes from: files, the hub or made up here; and which column is what."""
