"""The command line: each job of the workflow is one of these commands, and can be run by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any, NoReturn

import click

from metabench import __version__

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
TABLES = click.Path(exists=True, file_okay=False, path_type=Path)
MOST = 100_000
"""The largest number that `predict` takes."""


class Json(click.ParamType[Any]):
    """Settings of a job, as the plan spells them.

    Args:
        kind: One of `metabench.study.config.SETTINGS`.
    """

    name = "json"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read and check one JSON object."""
        from metabench.study import config, plans

        try:
            return plans.read_settings(self.kind, value)
        except config.ConfigError as error:
            self.fail(str(error), param, ctx)


class SeedBlock(click.ParamType[str]):
    """A block of seeds, FIRST-LAST."""

    name = "FIRST-LAST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the spelling."""
        from metabench.study.plans import seeds_of

        try:
            seeds_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class StepSize(click.FloatRange):
    """A step size; not NaN, which no range refuses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check that it is a number in the range."""
        size = super().convert(value, param, ctx)
        return self.fail(f"{size} is not a number.", param, ctx) if isnan(size) else size


class Answering(click.Group):
    """Commands that answer what a user can do something about in one clear line and an exit code
    other than 0.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Read the arguments of a command, and run it."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click answers them itself
        except ModuleNotFoundError as error:
            _answer(f"{error}; install the locked versions: pip install -r requirements.lock", 2)
        except KeyboardInterrupt:
            _answer("interrupted; the same command goes on, from its checkpoint if it trains", 130)
        except Exception as error:
            from metabench.learning.engine import EngineError
            from metabench.records.artifacts import ArtifactError
            from metabench.study.config import ConfigError

            if not isinstance(error, ArtifactError | ConfigError | EngineError | OSError):
                raise
            _answer(str(error), 2)


def _answer(line: str, code: int) -> NoReturn:
    click.echo(f"metabench: {line}", err=True)
    sys.exit(code)


@click.group(
    cls=Answering,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
def main() -> None:
    """Few-shot sine regression by meta-learning: plan, train, evaluate, tabulate, verify, draw,
    track and predict.
    """


def settings_option(kind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option that takes settings of a kind."""
    return click.option(
        "--settings", type=Json(kind), required=True, help="The job's settings, a JSON object."
    )


seeds_option = click.option(
    "--seeds", type=SeedBlock(), required=True, help="The block of seeds, for instance 0-9."
)


def _one_thread() -> None:
    """Compute with one thread: more of them change the bits of a result."""
    import torch

    torch.set_num_threads(1)


@main.command()
@click.option(
    "--config",
    "path",
    type=EXISTING,
    default="config/flux.yaml",
    show_default=True,
    help="The study file.",
)
@click.option(
    "--cores",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Jobs that run at a time.",
)
def plan(path: Path, cores: int) -> None:
    """Print a study's cells, jobs and expected minutes before anything runs."""
    from metabench.study import config, plans

    click.echo(plans.summary(config.load(path), cores))


@main.command()
@settings_option("train")
@seeds_option
@click.option(
    "--checkpoint", type=FILE, required=True, help="Where to keep the state after each validation."
)
@click.option("--out", type=FILE, required=True, help="The trained record to write (safetensors).")
def train(settings: dict[str, Any], seeds: str, checkpoint: Path, out: Path) -> None:
    """Meta-train one block of seeds of one cell as one tensor program; go on from a checkpoint if
    there is one.

    The last checkpoint stays: should the record be lost, or Snakemake die before it has taken note
    of it, it is there again at once. Delete it to train from the beginning.
    """
    from metabench.learning import algorithms, engine, training
    from metabench.records import artifacts, locks, records
    from metabench.study import plans
    from metabench.workflow.progress import Progress

    _one_thread()
    header = records.training_header(settings, seeds)
    total = settings["meta_iterations"]
    click.echo(f"engine: {engine.name()}", err=True)
    with locks.alone(checkpoint.with_suffix(".lock"), "which trains the same runs"):
        state = records.read_checkpoint(checkpoint, header)
        done = state.meta_iteration if state else 0
        if done:
            click.echo(
                f"going on from the checkpoint after {done} of {total} meta-iterations", err=True
            )
        name = algorithms.name(settings["algorithm"])
        with Progress(f"train {name} {out.parent.name} seeds {seeds}", total, done) as progress:

            def after_interval(state: training.State) -> None:
                artifacts.write(checkpoint, records.from_state(state), header)
                progress.advance(state.meta_iteration - progress.done)

            algorithm = algorithms.load(settings["algorithm"])
            final = training.train(
                settings, plans.seeds_of(seeds), algorithm, state, after_interval
            )
        artifacts.write(out, records.from_state(final), header)
    if diverged := int((final.diverged_at > 0).sum()):
        click.echo(
            f"{diverged} of {len(final.theta)} runs diverged; they stay in every table", err=True
        )


@main.command()
@settings_option("evaluate")
@seeds_option
@click.option("--theta", type=EXISTING, required=True, help="The trained record.")
@click.option(
    "--out", type=FILE, required=True, help="The evaluation record to write (safetensors)."
)
def evaluate(settings: dict[str, Any], seeds: str, theta: Path, out: Path) -> None:
    """Adapt trained initializations to the held-out tasks under every protocol and measure each
    update.
    """
    from metabench.learning import algorithms, evaluation
    from metabench.records import artifacts, records
    from metabench.workflow.progress import Progress

    _one_thread()
    learned, content = records.read_theta(theta, settings, seeds)
    name, total = (
        algorithms.name(settings["algorithm"]),
        len(settings["steps"]) * len(settings["protocols"]),
    )
    with Progress(f"evaluate {name} {out.parent.name} seeds {seeds}", total) as progress:
        found = evaluation.evaluate(
            settings, learned, algorithms.load(settings["algorithm"]), progress.advance
        )
    artifacts.write(
        out, records.from_tensors(found), records.evaluation_header(settings, seeds, content)
    )


study_option = click.option(
    "--study", "content", type=Json("study"), required=True, help="The whole study, a JSON object."
)
tables_option = click.option(
    "--tables",
    "source",
    type=TABLES,
    required=True,
    help="A folder of tables, for instance results/reference/flux/tables.",
)
root_option = click.option(
    "--root", type=FOLDER, required=True, help="The study's folder, for instance results/flux."
)


@main.command()
@settings_option("baselines")
@click.option("--out", type=FILE, required=True, help="The record to write (safetensors).")
def baselines(settings: dict[str, Any], out: Path) -> None:
    """Evaluate the predictors that learn nothing: zero, least squares, Gaussian process."""
    from metabench.learning.baselines import evaluate as evaluate_baselines
    from metabench.records import artifacts, records

    _one_thread()
    artifacts.write(
        out, records.from_tensors(evaluate_baselines(settings)), records.baselines_header(settings)
    )


@main.command()
@study_option
@root_option
def tables(content: dict[str, Any], root: Path) -> None:
    """Aggregate the finished records of a study into tables, and write where its results come from."""
    from metabench.analysis import tables as tabulation
    from metabench.learning import engine
    from metabench.records import provenance
    from metabench.records.artifacts import replacing
    from metabench.study import config
    from metabench.workflow.progress import Progress

    study = tabulation.read_study(root, config.parse(content))
    with Progress("tables", len(tabulation.NAMES)) as progress:
        tabulation.write_all(study, root / "tables", progress.advance)
    for warning in tabulation.edge_warnings(root / "tables"):
        click.echo(warning, err=True)
    with replacing(root / "provenance.json") as temporary:
        about = {
            "study": content,
            "config": provenance.config_digest(content),
            **provenance.describe(engine.name()),
        }
        text = json.dumps(about, indent=2, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")


@main.command()
@tables_option
@click.option("--out", type=FOLDER, required=True, help="The folder to draw into.")
def figures(source: Path, out: Path) -> None:
    """Draw every figure, as SVG and PNG, from a folder of tables alone."""
    from metabench.views import figures as drawing
    from metabench.workflow.progress import Progress

    with Progress("figures", drawing.count(source)) as progress:
        drawing.draw_all(source, out, progress.advance)


@main.command()
@click.option("--theta", type=EXISTING, required=True, help="A trained record (safetensors).")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Which of its runs."
)
@click.option("--points", type=EXISTING, required=True, help="A CSV file with the columns x and y.")
@click.option(
    "--updates", type=click.IntRange(0, MOST), default=10, show_default=True, help="Gradient steps."
)
@click.option(
    "--step-size",
    type=StepSize(0, MOST, min_open=True),
    help="Their size [default: the record's own].",
)
@click.option(
    "--at",
    type=click.IntRange(2, MOST),
    default=50,
    show_default=True,
    help="How many x to predict at.",
)
def predict(
    theta: Path, seed: int, points: Path, updates: int, step_size: float | None, at: int
) -> None:
    """Adapt a trained initialization to the points of a CSV file and print the curve before and
    after, as CSV.
    """
    from metabench import predict as prediction
    from metabench.analysis import frames

    _one_thread()
    curve = prediction.curve(theta, seed, frames.read_points(points), updates, step_size, at)
    click.echo(frames.spell(curve), nl=False)


@main.command("check-algorithm")
@click.argument("algorithm")
def check_algorithm(algorithm: str) -> None:
    """Check an algorithm, by its name or the path of its file, and say what is wrong; exit with 1
    if anything is.

    What is checked: shapes, determinism, independence of neighbours, global randomness, the labels
    of query sets, cost, and going on from a checkpoint. A file that passes may be named in a study,
    as `algorithm: path/to/mine.py`.
    """
    from metabench import check_algorithm as conformance

    _one_thread()
    wrong = 0
    try:
        for rule, found in conformance.findings(algorithm):
            click.echo(
                f"{'ok   ' if found is None else 'WRONG'} {rule}"
                + (f"\n      {found}" if found else "")
            )
            wrong += found is not None
    except ValueError as error:
        _answer(str(error), 2)
    click.echo(f"{algorithm}: {'all checks hold' if not wrong else f'{wrong} checks do not hold'}")
    sys.exit(1 if wrong else 0)


@main.command()
@tables_option
def headline(source: Path) -> None:
    """Print the main rows of a study's leaderboard as a Markdown table."""
    from metabench.analysis.frames import read
    from metabench.records import manifests
    from metabench.views import headline as summary

    manifests.read(source)
    click.echo(summary.markdown(read(source, "leaderboard.csv")))


@main.command()
@click.option("--rows", type=EXISTING, help="Published numbers [default: those of metabench].")
@click.option(
    "--studies",
    type=TABLES,
    default="results/reference",
    show_default=True,
    help="The folder of finished studies.",
)
@click.option(
    "--study",
    "content",
    type=Json("study"),
    help="Only the numbers that this study covers, a JSON object.",
)
@click.option(
    "--out",
    type=FOLDER,
    default="results/literature",
    show_default=True,
    help="The folder to write into.",
)
def literature(rows: Path | None, studies: Path, content: dict[str, Any] | None, out: Path) -> None:
    """Hold published numbers against ours: tables, a figure, and the tables in Markdown on the
    terminal.
    """
    from metabench.analysis import frames
    from metabench.records import manifests
    from metabench.study import config
    from metabench.views import literature as published
    from metabench.views.figures import literature as drawing
    from metabench.views.figures import style

    known = published.load(rows or published.ROWS)
    if content is not None:
        known = published.covered(known, config.parse(content))
    contents = {
        name: manifests.read(studies / name / "tables")["content"]
        for name in published.studies(known)
    }
    found, varied = published.table(known, studies), published.variations(known, studies)
    files = [out / published.NAME]
    frames.write(found, files[0])
    click.echo(published.markdown(found))
    if known.variations:
        files.append(out / "variations.csv")
        frames.write(varied, files[-1])
        click.echo(f"\n{published.variations_markdown(varied)}")
    with style.settings():
        files += style.save(drawing.draw(found), out / "literature")
    manifests.write(out, [file.name for file in files], published.header(known, contents))


@main.command()
@tables_option
@click.option(
    "--reference", type=TABLES, required=True, help="The folder of tables to compare with."
)
@click.option(
    "--level",
    type=click.Choice(["identical", "rounding", "consistent"]),
    default="rounding",
    show_default=True,
    help="The level to reach.",
)
@click.option("--out", type=FILE, help="Where to write how far each column is (CSV).")
def verify(source: Path, reference: Path, level: str, out: Path | None) -> None:
    """Compare tables with those of a reference; exit with 1 if they do not reach a level.

    identical: every file has the same bytes. rounding: equal but for what another processor's
        rounding makes of them.
    consistent: no further apart than two trainings with other random numbers.
    """
    from metabench.analysis import frames, verification

    found = verification.compare(source, reference)
    if out is not None:
        frames.write(found.deviations, out)
    click.echo(verification.report(found, level))
    sys.exit(0 if found.reaches(level) else 1)


@main.group()
def track() -> None:
    """Mirror finished records into MLflow: the study's sqlite file, or the store
    MLFLOW_TRACKING_URI names.
    """


store_option = click.option(
    "--store", "name", required=True, help="The store's name, as the workflow found it."
)
marker_option = click.option("--out", type=FILE, required=True, help="The marker to write (JSON).")


@track.command("cells")
@click.option(
    "--settings",
    type=Json("track"),
    multiple=True,
    required=True,
    help="A cell's settings; may be repeated.",
)
@click.option(
    "--seeds",
    type=SeedBlock(),
    multiple=True,
    required=True,
    help="A block of its seeds, as often.",
)
@click.option(
    "--out",
    "markers",
    type=FILE,
    multiple=True,
    required=True,
    help="The marker to write, as often.",
)
@root_option
@store_option
def track_cells(
    settings: tuple[dict[str, Any], ...],
    seeds: tuple[str, ...],
    markers: tuple[Path, ...],
    root: Path,
    name: str,
) -> None:
    """Mirror the runs of blocks of cells' seeds, one after another; what is mirrored already is
    left alone.
    """
    from metabench.records import records
    from metabench.views.tracking import contents, mirror, store
    from metabench.workflow.progress import Progress

    if not len(settings) == len(seeds) == len(markers):
        given = f"{len(settings)}, {len(seeds)} and {len(markers)} times"
        raise click.UsageError(
            f"--settings, --seeds and --out must be given equally often, got {given}"
        )
    jobs = [
        (*contents.read_settings(spelled), block)
        for spelled, block in zip(settings, seeds, strict=True)
    ]
    if len({study.study for study, _, _ in jobs}) > 1:
        raise click.UsageError("all --settings must be of one study")
    with (
        mirror.opened(root, jobs[0][0].study, name) as opened,
        Progress("track", len(jobs)) as progress,
    ):
        for (study, cell, block), out in zip(jobs, markers, strict=True):
            digests = opened.track_block(study, cell, block)
            store.write_marker(
                out,
                contents.cell_header(study, records.Paths(root), cell, block),
                {"runs": digests},
            )
            progress.advance()


@track.command("study")
@study_option
@root_option
@store_option
@marker_option
def track_study(content: dict[str, Any], root: Path, name: str, out: Path) -> None:
    """Mirror the study's own run once all cells are mirrored, and say how to look at it."""
    from metabench.study import config, plans
    from metabench.views.tracking import contents, mirror, store

    study = config.parse(content)
    markers = {job: store.marker(root, name, *job) for job in plans.train_jobs(study)}
    tracked = {job: store.read_marker(path)["runs"] for job, path in markers.items()}
    with mirror.opened(root, study.study, name) as opened:
        runs = opened.track_study(study, tracked)
    line = store.ui_line(store.uri_of(root))
    store.write_marker(out, contents.study_header(study, root), {"runs": runs, "look": line})
    click.echo(f"{runs} runs of {study.study} are in MLflow; to look at them:\n{line}")
