"""Training: objectives, optimizers, the training loop, checkpoints and results."""
