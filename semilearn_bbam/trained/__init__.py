"""What is done with trained runs: their data read back, evaluation, decisions, suggestions of rows to label."""
