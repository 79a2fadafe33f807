"""What runs any method: stages, loops, checkpoints, loaders, hooks."""
