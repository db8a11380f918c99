"""Several ranks that train one model: what each holds, what they send each other, and what they agree on."""
