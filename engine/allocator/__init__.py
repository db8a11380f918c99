"""PyTorch's caching allocator for CUDA, as a model. No torch."""
