"""The numerical core: tasks, networks, algorithms, training and evaluation. It has no files."""
