"""Registry of architectures, layers, optimizers, flipped classes, saved nets."""
