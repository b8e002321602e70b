"""The hyperparameters as algorithms declare them, in words.

python tests/declared.py       renews the tables in config/README.md from the declarations
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from marked import renewed
from pydantic.fields import FieldInfo

from metabench.learning import algorithms
from metabench.learning.hyperparameters import Hyperparameters, value_text

PAGE = Path(__file__).resolve().parent.parent / "config" / "README.md"

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

LARGE = 1000
"""From here on, a largest value only keeps mistakes away and is not told."""


def models() -> dict[str, type[Hyperparameters]]:
    """Return what each algorithm of the package reads."""
    return {name: algorithms.load(name).hyperparameters for name in algorithms.NAMES}


def hyperparameters() -> dict[str, tuple[FieldInfo, str]]:
    """Return every hyperparameter, with how the name of a cell calls it."""
    found: dict[str, tuple[FieldInfo, str]] = {}
    for model in models().values():
        for name, field in model.model_fields.items():
            found[name] = field, model.words()[name]
    return dict(sorted(found.items()))


def allowed(field: FieldInfo) -> str:
    """Return what a hyperparameter may be."""
    annotation, metadata = field.annotation, list(field.metadata)
    if type(None) in get_args(annotation):
        (annotation,) = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(get_args(annotation))
    if get_origin(annotation) is Annotated:  # the bounds of `Count | None` are those of `Count`
        annotation, *declared = get_args(annotation)
        metadata += [bound for info in declared for bound in info.metadata]
    words = [KINDS[annotation]]
    for bound in metadata:
        if isinstance(bound, Ge):
            words.append(f"from {bound.ge}")
        if isinstance(bound, Gt):
            words.append(f"above {bound.gt}")
        if isinstance(bound, Lt):
            words.append(f"below {bound.lt}")
        if isinstance(bound, Le) and bound.le < LARGE:
            words.append(f"to {bound.le}")
    return " ".join(words)


def default_text(value: Any) -> str:
    """Return a default in words."""
    return "not given" if value is None else value_text(value)


def tables() -> str:
    """Return both tables in Markdown: what each hyperparameter is, and who reads which."""
    lines = ["| hyperparameter | values | meaning | in a cell's name |", "|---|---|---|---|"]
    for name, (field, word) in hyperparameters().items():
        lines.append(
            f"| `{name}` | {allowed(field)} | {field.description} | {word or 'its value'} |"
        )
    lines += ["", "| algorithm | required | optional, with its default |", "|---|---|---|"]
    for name, model in models().items():
        required = [key for key, field in model.model_fields.items() if field.is_required()]
        others = [
            f"{key} {default_text(field.default)}"
            for key, field in model.model_fields.items()
            if not field.is_required()
        ]
        lines.append(
            f"| `{name}` | {', '.join(required) or 'none'} | {', '.join(others) or 'none'} |"
        )
    return "\n".join(lines)


def page() -> str:
    """Return config/README.md with the tables as they must be now."""
    return renewed(PAGE.read_text(encoding="utf-8"), "hyperparameters", tables())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
