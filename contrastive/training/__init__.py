"""State, step, mesh, checkpoints and the one loop."""
