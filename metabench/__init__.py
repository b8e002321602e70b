"""metabench: a reproducible benchmark of few-shot sine regression by meta-learning."""

import os

__version__ = "0.1.0"

# Before torch is loaded: else its products round by where a matrix lies in memory, and so by its
# place in a stack.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
