"""A study as it is run: its content and its engine, fixed once for all jobs.

`results/STUDY/study.json` is written when a study starts. Its jobs read it, also on other machines,
so that an edited study file or a different processor cannot mix results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metabench.learning import engine
from metabench.records.artifacts import AGAIN, ArtifactError, write_text
from metabench.records.layout import RESULTS, Layout
from metabench.records.measured import Reader
from metabench.study import config
from metabench.study.jobs import Study
from metabench.study.messages import ConfigError, Mistakes


@dataclass(frozen=True)
class Running:
    """A checked study with its files and its engine; ConfigError if it has mistakes.

    Args:
        study: The study.
        layout: Its files.
        engine: The engine that computes it.
    """

    study: Study
    layout: Layout
    engine: str

    def __post_init__(self) -> None:
        self.study.check()

    @classmethod
    def start(cls, study: Study, results: Path = RESULTS) -> Running:
        """Return a study as this machine runs it.

        Args:
            study: The study.
            results: The folder of all studies.

        Raises:
            ArtifactError: It is trained in a study that does not exist.
            ConfigError: It is trained in a study with different training.
            EngineError: As `engine.name` does.
        """
        trained_in = study.config.trained_in
        layout = Layout(results / study.name, trained_in)
        if trained_in is None:
            return cls(study, layout, engine.name())
        other = read(trained_in, results=results)
        _require_same_training(study, other.study)
        return cls(study, layout, other.engine)

    @property
    def reader(self) -> Reader:
        """The reader of its records."""
        return Reader(self.study, self.layout, self.engine)

    def require_predictions(self) -> None:
        """Read every file of predictions; raise ArtifactError where one cannot be scored."""
        for name in self.study.predictions:
            self.reader.answers(name)

    def write(self) -> None:
        """Write study.json for the jobs, unless it already has this content."""
        content = {"engine": self.engine, "study": self.study.config.model_dump(mode="json")}
        text = json.dumps(content, indent=2) + "\n"  # in the order of the file, which has a meaning
        write_text(self.layout.study, text)


def read(given: str | Path, started: bool = True, results: Path = RESULTS) -> Running:
    """Return the study that a user or a rule names.

    Args:
        given: A study file (.yaml), a study as it is run (study.json), or the name of a study,
            which means results/NAME/study.json if the study was started, and config/NAME.yaml
            otherwise.
        started: Whether a name may mean a study as it is run, or only its file.
        results: The folder of all studies.

    Raises:
        ConfigError: The file is not a study.
        ArtifactError: The study does not exist, or study.json is damaged.
        EngineError: The study was not started, and this machine's engine cannot be determined.
    """
    path = Path(given)
    if path.suffix not in (".yaml", ".yml", ".json"):
        places = [Layout(results / str(given)).study] if started else []
        places.append(Path("config") / f"{given}.yaml")
        found = [place for place in places if place.is_file()]
        if not found:
            candidates = " or ".join(map(str, places))
            raise ArtifactError(f"unknown study {str(given)!r:.60}: there is no {candidates}")
        path = found[0]
    if path.suffix != ".json":
        return Running.start(Study(config.load(path)))
    content = _content(path)
    study = Study(config.parse(content["study"], str(path)))
    return Running(study, Layout(path.parent, study.config.trained_in), content["engine"])


def _require_same_training(study: Study, other: Study) -> None:
    """Raise ConfigError if a study does not train everything that another one evaluates."""
    place = f"(trained_in: {other.name})"
    if other.config.trained_in:
        raise ConfigError(
            f"{other.name} is trained in {other.config.trained_in} itself; name that {place}"
        )
    mistakes = Mistakes()
    missing = [seeds for seeds in study.blocks if seeds not in other.blocks]
    if missing:
        mistakes.add(
            f"{other.name} trains the seeds {', '.join(other.blocks)}, and not {missing[0]} {place}"
        )
    trained = {cell.path: cell for cell in other.cells}
    for cell in study.cells:
        if cell.path not in trained:
            mistakes.add(f"{other.name} does not train the cell {cell.title} {place}")
            continue
        ours = study.train_settings(cell).model_dump(mode="json")
        theirs = other.train_settings(trained[cell.path]).model_dump(mode="json")
        differing = [key for key in ours if ours[key] != theirs[key]]
        if differing:
            mistakes.add(
                f"{other.name} trains the cell {cell.title} with other {' and '.join(differing)} "
                f"{place}"
            )
    mistakes.report()


def _content(path: Path) -> dict[str, Any]:
    """Return the content of study.json; raise ArtifactError if it is invalid."""
    try:
        content = config.read_json(path.read_text(encoding="utf-8"), path.name)
        if set(content) != {"engine", "study"}:
            raise ValueError(f"it must hold engine and study, it has {', '.join(content)}")
        if content["engine"] not in engine.NAMES:
            raise ValueError(f"its engine must be one of {', '.join(engine.NAMES)}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a study as it is run: {error}; {AGAIN}") from None
    return content
