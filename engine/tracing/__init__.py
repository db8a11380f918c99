"""A training step seen operator by operator, on meta tensors or live."""
