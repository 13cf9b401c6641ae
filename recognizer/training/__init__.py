"""Training a net: batches, steps, callbacks, trial, prediction."""
