"""Run the command line as ``python -m metabench``."""

from metabench.cli import main

main()
