"""Small helpers that know nothing of learning: files, signals, progress, the hub, processes."""
