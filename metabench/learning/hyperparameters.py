"""What an algorithm can be told: its hyperparameters, with types, bounds, help and defaults.

An algorithm declares its own in its own file, as a subclass of `Hyperparameters`. Those that many
algorithms share have their types here:

    class Hyperparameters(OuterLoop):
        shots: Shots = 10
        inner_step_size: InnerStepSize
        strength: Annotated[Positive, Field(description="How strongly phi is pulled back.")] = 0.1

A study file may give any of them a list of values. A default is the value of the algorithm's source.
A cell's name says what has no default and what differs from it, so a name stays as it is when a
grid grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from metabench.learning.fields import Count, Model, Positive


@dataclass(frozen=True)
class Word:
    """How a hyperparameter is called in the name of a cell; "" where its value is word enough."""

    text: str


Context = Annotated[int, Field(ge=1, le=1000)]

MetaStepSize = Annotated[Positive, Field(description="Size of the outer update."), Word("meta")]
MetaBatchSize = Annotated[Count, Field(description="Tasks of a meta-iteration."), Word("batch")]
Shots = Annotated[
    Count, Field(description="Points of each support set or mini-batch."), Word("shots")
]
InnerSteps = Annotated[
    Count, Field(description="Gradient steps on each task in training."), Word("steps")
]
InnerStepSize = Annotated[
    Positive,
    Field(description="Size of the inner steps, or what learned sizes begin with."),
    Word("inner"),
]
Queries = Annotated[
    Count | None,
    Field(description="Fresh query points of each task; the query grid if not given."),
    Word("queries"),
]
ContextSize = Annotated[
    Context,
    Field(description="Numbers that adapt, or that describe a support set."),
    Word("context"),
]
MetaOptimizer = Annotated[
    Literal["sgd", "adam"], Field(description="Rule of the outer update."), Word("")
]
MetaSchedule = Annotated[
    Literal["constant", "linear", "cosine"],
    Field(description="Whether the outer step size stays, or falls to 0 over training."),
    Word(""),
]
MetaClip = Annotated[
    Positive | None,
    Field(description="What each number of the outer gradient is cut at; not cut if not given."),
    Word("clip"),
]
InnerClip = Annotated[
    Positive | None,
    Field(description="What each number of an inner gradient is cut at; not cut if not given."),
    Word("inner clip"),
]
InnerOptimizer = Annotated[
    Literal["sgd", "adam"], Field(description="Rule of the inner steps."), Word("inner")
]


class Hyperparameters(Model):
    """What an algorithm reads; each algorithm has a subclass of its own."""

    model_config = ConfigDict(validate_default=True)  # a file's author may be wrong about one

    @classmethod
    def words(cls) -> dict[str, str]:
        """Return how each hyperparameter is called in the name of a cell."""
        found = {}
        for name, field in cls.model_fields.items():
            words = [item.text for item in field.metadata if isinstance(item, Word)]
            found[name] = words[0] if words else name.replace("_", " ")
        return found

    def told(self) -> Iterator[str]:
        """Yield the parts of a cell's name: what has no default, then what differs from it."""
        fields, words = type(self).model_fields, self.words()
        required = [name for name, field in fields.items() if field.is_required()]
        options = [name for name in fields if name not in required]
        for name in sorted(required, key=words.__getitem__):
            yield self._told(name, words[name])
        for name in options:
            if getattr(self, name) != fields[name].default:
                yield self._told(name, words[name])

    def _told(self, name: str, word: str) -> str:
        value = getattr(self, name)
        if not word and not isinstance(value, str):  # a name must not look like a number
            word = name.replace("_", " ")
        return f"{word} {spelled(value)}".strip()


def spelled(value: Any) -> str:
    """Return a value as a name spells it: short, and never another value's.

    Example:
        >>> spelled(0.02), spelled(1.0), spelled(1234567.5), spelled((64, 64)), spelled("adam")
        ('0.02', '1', '1234567.5', '64x64', 'adam')
    """
    if isinstance(value, tuple | list):
        return "x".join(spelled(item) for item in value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return "grid" if value is None else str(value)


class OuterLoop(Hyperparameters):
    """What every algorithm that trains reads: the tasks of a meta-iteration and the outer update."""

    meta_batch_size: MetaBatchSize = 1
    meta_step_size: MetaStepSize
    meta_optimizer: MetaOptimizer = "sgd"
    meta_schedule: MetaSchedule = "constant"
    meta_clip: MetaClip = None


class InnerLoop(OuterLoop):
    """What algorithms with gradient steps on each task read besides."""

    shots: Shots = 10
    inner_steps: InnerSteps = 1
    inner_step_size: InnerStepSize
