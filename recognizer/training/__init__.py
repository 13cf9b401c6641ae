"""One net's training: batches, steps, callbacks, trial, prediction."""
