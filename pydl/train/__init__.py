"""Training: checkpoints, the trainer, its callbacks and history."""
