"""Hyperparameters of algorithms, with types, bounds, help texts and defaults.

Each algorithm declares its hyperparameters in its own file, in a subclass of `Hyperparameters`. The
types of those that several algorithms share are here:

    class Hyperparameters(OuterLoop):
        shots: Shots = 10
        inner_step_size: InnerStepSize
        strength: Annotated[Positive, Field(description="How strongly phi is pulled back.")] = 0.1

A study file may give a list of values to any of them. Defaults are those of the algorithm's source.
The name of a cell has the hyperparameters without a default and those that differ from theirs. So
names do not change when a grid grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.fields import FieldInfo

from metabench.learning.fields import Count, Model, Positive


@dataclass(frozen=True)
class Word:
    """Name of a hyperparameter in the name of a cell.

    Args:
        text: The name; "" if the value needs none.
        missing: What stands for a value of None.
    """

    text: str
    missing: str = "none"


Context = Annotated[int, Field(ge=1, le=1000)]

MetaStepSize = Annotated[Positive, Field(description="Size of the outer update."), Word("meta")]
MetaBatchSize = Annotated[Count, Field(description="Tasks of a meta-iteration."), Word("batch")]
Shots = Annotated[
    Count, Field(description="Number of points of each support set or mini-batch."), Word("shots")
]
LeastShots = Annotated[
    Count,
    Field(description="Least number of points of a support set; `shots` is the largest."),
    Word("least shots"),
]
LeastWidth = Annotated[
    float,
    Field(gt=0, le=1, description="Least width of a support set, as a fraction of the domain."),
    Word("least width"),
]
Blocks = Annotated[Count, Field(description="Number of blocks of the transformer."), Word("blocks")]
Heads = Annotated[Count, Field(description="Number of heads of each block."), Word("heads")]
InnerSteps = Annotated[
    Count, Field(description="Number of gradient steps on each task in training."), Word("steps")
]
InnerStepSize = Annotated[
    Positive,
    Field(description="Size of the inner steps, or the initial value of learned sizes."),
    Word("inner"),
]
Queries = Annotated[
    Count | None,
    Field(description="Number of fresh query points of each task; the query grid if omitted."),
    Word("queries", missing="grid"),
]
ContextSize = Annotated[
    Context,
    Field(description="Number of values that adapt, or that describe a support set."),
    Word("context"),
]
MetaOptimizer = Annotated[
    Literal["sgd", "adam"], Field(description="Optimizer of the outer update."), Word("")
]
MetaSchedule = Annotated[
    Literal["constant", "linear", "cosine"],
    Field(description="Whether the outer step size is constant or falls to 0 over training."),
    Word(""),
]
MetaClip = Annotated[
    Positive | None,
    Field(description="Limit of each number of the outer gradient; unlimited if omitted."),
    Word("clip"),
]
InnerClip = Annotated[
    Positive | None,
    Field(description="Limit of each number of an inner gradient; unlimited if omitted."),
    Word("inner clip"),
]
InnerOptimizer = Annotated[
    Literal["sgd", "adam"], Field(description="Optimizer of the inner steps."), Word("inner")
]


class Hyperparameters(Model):
    """Base of the hyperparameters of an algorithm, each of which has its own subclass."""

    model_config = ConfigDict(validate_default=True)  # an author's default may violate its bounds

    @classmethod
    def words(cls) -> dict[str, str]:
        """Return the name of each hyperparameter in the name of a cell.

        A hyperparameter without a `Word` has its own name. If that is the word of another one, as
        `clip` is of `meta_clip`, it is marked as the algorithm's own.
        """
        fields = cls.model_fields
        words = {name: _word(field) for name, field in fields.items()}
        taken = {word.text for word in words.values() if word}
        plain = {name: name.replace("_", " ") for name in fields}
        own = {name: f"own {text}" if text in taken else text for name, text in plain.items()}
        return {name: word.text if word else own[name] for name, word in words.items()}

    def name_parts(self) -> Iterator[str]:
        """Yield the parts of a cell's name: required hyperparameters, then changed defaults."""
        fields, words = type(self).model_fields, self.words()
        required = [name for name, field in fields.items() if field.is_required()]
        options = [name for name in fields if name not in required]
        for name in sorted(required, key=words.__getitem__):
            yield self._name_part(name, words[name])
        for name in options:
            if getattr(self, name) != fields[name].default:
                yield self._name_part(name, words[name])

    def at(self, done: float) -> Self:
        """Return the hyperparameters when a fraction of training is done."""
        return self

    def _name_part(self, name: str, word: str) -> str:
        value = getattr(self, name)
        if not word and not isinstance(value, str):  # a name must not look like a number
            word = name.replace("_", " ")
        if value is None:
            known = _word(type(self).model_fields[name]) or Word(word)
            return f"{word} {known.missing}".strip()
        return f"{word} {value_text(value)}".strip()


def _word(field: FieldInfo) -> Word | None:
    """Return the declared name of a hyperparameter in the name of a cell, if it has one."""
    return next((item for item in field.metadata if isinstance(item, Word)), None)


def value_text(value: Any) -> str:
    """Return a value as text in a name: short, and different for different values.

    Example:
        >>> value_text(0.02), value_text(1.0), value_text(1234567.5)
        ('0.02', '1', '1234567.5')
        >>> value_text((64, 64)), value_text("adam")
        ('64x64', 'adam')
    """
    if isinstance(value, tuple | list):
        return "x".join(value_text(item) for item in value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


class OuterLoop(Hyperparameters):
    """Hyperparameters of all algorithms that train: the meta-batch and the outer update."""

    meta_batch_size: MetaBatchSize = 1
    meta_step_size: MetaStepSize
    meta_optimizer: MetaOptimizer = "sgd"
    meta_schedule: MetaSchedule = "constant"
    meta_clip: MetaClip = None


class VariedSupport(OuterLoop):
    """Hyperparameters of algorithms that train on support sets of random sizes and intervals."""

    meta_batch_size: MetaBatchSize = 16
    shots: Shots = 10
    least_shots: LeastShots = 3
    least_width: LeastWidth = 1.0
    queries: Queries = None


class InnerLoop(OuterLoop):
    """Hyperparameters of algorithms that take gradient steps on each task."""

    shots: Shots = 10
    inner_steps: InnerSteps = 1
    inner_step_size: InnerStepSize
