"""What learns: tasks, networks, algorithms, training and evaluation. It knows tensors and no files."""
