"""Support for the Snakefile: files, staleness, expected times and progress."""
