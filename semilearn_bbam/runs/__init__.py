"""The folder of a run, and its one reader."""
