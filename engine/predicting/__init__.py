"""What a trained classifier says of texts: a file's rows in, labels with their probabilities out."""
