"""Workloads: what is trained on, how it is batched, how it is scored."""
