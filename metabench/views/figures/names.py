"""Names of a study's figures: a function of its algorithms and protocols, so that they are known
before it runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from string import Formatter
from typing import NamedTuple


class Family(NamedTuple):
    """Figures of one kind.

    Args:
        stem: File name without suffix; its fields in braces are filled in.
        category: Its heading in the report.
    """

    stem: str
    category: str

    @property
    def name(self) -> str:
        """The fixed part of the stem: names the caption and the module that draws."""
        return self.stem.partition("_{")[0]

    @property
    def fields(self) -> list[str]:
        """The fields of the stem."""
        return [field for _, field, _, _ in Formatter().parse(self.stem) if field]

    def match(self, stem: str) -> dict[str, str] | None:
        """Return the fields of a stem of this family; None for any other. Protocols have no
        underscore.
        """
        patterns = {
            "algorithm": "(?P<algorithm>.+)",
            "protocol": "(?P<protocol>[^_]+)",
            "statistic": "(?P<statistic>.+)",
        }
        found = re.fullmatch(self.stem.format(**patterns), stem)
        return found.groupdict() if found else None


FAMILIES = (
    Family("adaptation_{protocol}_{statistic}", "Adaptation"),
    Family("robustness_regions", "Robustness"),
    Family("task_losses_{protocol}", "Task losses"),
    Family("comparisons", "Comparisons"),
    Family("equal_budget", "Comparisons"),
    Family("step_sizes_{protocol}", "Step sizes"),
    Family("validation_curves", "Training"),
    Family("showcase_{algorithm}_{protocol}", "Showcase"),
)
"""In the order of the report."""

STATISTICS = ("mean", "median")


def figure_names(algorithms: Sequence[str], protocols: Sequence[str]) -> list[str]:
    """Return the file names, without suffix, of a study's figures.

    Args:
        algorithms: Those with a published cell.
        protocols: The evaluation settings.

    Example:
        >>> figure_names(["reptile"], ["standard"])[:3]
        ['adaptation_standard_mean', 'adaptation_standard_median', 'robustness_regions']
    """
    values = {"algorithm": algorithms, "protocol": protocols, "statistic": STATISTICS}
    return [
        family.stem.format(**dict(zip(family.fields, filling, strict=True)))
        for family in FAMILIES
        for filling in product(*(values[field] for field in family.fields))
    ]


def family_of(stem: str) -> tuple[Family, dict[str, str]]:
    """Return the family of a figure, and its fields.

    Raises:
        ValueError: No family has such a figure.
    """
    for family in FAMILIES:
        fields = family.match(stem)
        if fields is not None:
            return family, fields
    raise ValueError(
        f"no figure is called {stem!r}; choose from {', '.join(family.stem for family in FAMILIES)}"
    )


def report_entry(stem: str) -> tuple[str, dict[str, str], str]:
    """Return a figure's category, labels and caption file in Snakemake's report.

    Example:
        >>> report_entry("showcase_reptile_standard")
        ('Showcase', {'algorithm': 'reptile', 'protocol': 'standard'}, 'showcase.rst')
    """
    family, fields = family_of(stem)
    return (
        family.category,
        fields or {"figure": family.name.replace("_", " ")},
        f"{family.name}.rst",
    )
