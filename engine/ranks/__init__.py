"""Several GPUs: the group of processes that train one model, a rank's own process, and what they tell."""
