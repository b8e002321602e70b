"""What the Snakefile asks: files, what is stale, how long jobs take, how far they are."""
