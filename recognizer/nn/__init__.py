"""The registry of architectures; layers, losses and optimizers; saving and loading nets."""
