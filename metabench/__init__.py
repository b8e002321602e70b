"""metabench: a reproducible benchmark of few-shot sine regression by meta-learning."""

__version__ = "0.1.0"
