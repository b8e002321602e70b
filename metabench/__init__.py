"""metabench: a reproducible benchmark of few-shot regression by meta-learning.

The names below are all that the file of an algorithm or task family needs. Only these names are
stable; everything else may move.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Before torch is loaded: else its products round by where a matrix lies in memory, and so by its
# place in a stack.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

_NAMES = {
    "metabench.learning.adaptation": (
        "adapted",
        "mean_over_tasks",
        "one_copy_per_task",
        "path",
        "predicted",
    ),
    "metabench.learning.algorithm": (
        "DESCENT",
        "YARDSTICK",
        "Adaptation",
        "Algorithm",
        "Batch",
        "Cost",
        "Question",
        "before_and_after",
        "descending",
        "descending_elementwise",
        "initial_weights",
        "query_points",
        "require_mini_batches",
        "second_order_cost",
        "support_and_query",
        "whole_task_cost",
    ),
    "metabench.learning.autograd": ("gradient_of",),
    "metabench.learning.fields": (
        "Count",
        "Field",
        "Interval",
        "NotNegative",
        "Number",
        "Positive",
    ),
    "metabench.learning.hyperparameters": (
        "ContextSize",
        "Hyperparameters",
        "InnerLoop",
        "InnerOptimizer",
        "InnerStepSize",
        "InnerSteps",
        "MetaBatchSize",
        "MetaOptimizer",
        "MetaSchedule",
        "MetaStepSize",
        "OuterLoop",
        "Queries",
        "Shots",
        "Word",
    ),
    "metabench.learning.linear": ("product", "solve"),
    "metabench.learning.network": ("Network",),
    "metabench.learning.predictive": ("Predictive",),
    "metabench.learning.step_sizes": ("Maps", "Pulled", "Sizes"),
    "metabench.learning.randomness": ("normals", "permutations", "uniforms"),
    "metabench.learning.tasks": (
        "Points",
        "Task",
        "TaskBlock",
        "TaskDistribution",
        "lattice",
        "scale",
    ),
    "metabench.learning.torch_modules": ("from_module",),
}
"""The public names by the module that defines them; a module is imported when a name is used."""

HOMES = {name: module for module, names in _NAMES.items() for name in names}
"""The module of each public name."""

__all__ = ["__version__", *sorted(HOMES)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package stays quick."""
    if name not in HOMES:
        raise AttributeError(f"module 'metabench' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
