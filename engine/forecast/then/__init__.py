"""Models, losses and optimizers of earlier days, where they allocate differently from today's."""
