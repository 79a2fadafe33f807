"""Small helpers that do not depend on learning: files, signals, progress, the hub, processes."""
