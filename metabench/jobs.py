"""Each job of a study as a plain function, for the command line and the workflow.

    from metabench import jobs
    study = jobs.read("flux")
    jobs.train(study, study.study.cell("reptile/published"), "0-9")

A job reads and writes files at the paths of `Running.layout`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from metabench.records import artifacts, headers, locks
from metabench.records.running import Running, read
from metabench.study.cells import Cell
from metabench.study.jobs import seeds_of
from metabench.workflow.progress import Progress

__all__ = [
    "baselines",
    "evaluate",
    "export_bank",
    "figures",
    "literature",
    "predict",
    "predictions",
    "read",
    "record_of",
    "reference",
    "report",
    "tables",
    "track_cells",
    "track_study",
    "train",
]


def train(running: Running, cell: Cell, seeds: str) -> Path:
    """Meta-train one block of seeds of one cell as one tensor program.

    It resumes from a checkpoint if there is one. The last checkpoint is kept, so a lost record can
    be restored at once. Delete the checkpoint to train from the beginning.

    Args:
        running: The study.
        cell: One of its cells.
        seeds: A block of seeds, for instance ``0-9``.

    Returns:
        The record.
    """
    from metabench.learning import training
    from metabench.records import states

    _compute_with(running.engine)
    settings = running.study.train_settings(cell)
    header = headers.training(settings, seeds, running.engine)
    out = running.layout.trained(cell.path, seeds)
    checkpoint = running.layout.checkpoint(cell.path, seeds)
    total = settings.meta_iterations
    _print_line(f"engine: {running.engine}")
    with locks.alone(checkpoint.with_suffix(".lock"), "which trains the same runs"):
        state = states.read_checkpoint(checkpoint, settings, header)
        done = state.meta_iteration if state else 0
        if done:
            _print_line(f"resuming from the checkpoint after {done} of {total} meta-iterations")
        with Progress(f"train {cell.title}, seeds {seeds}", total, done) as progress:

            def after_interval(state: training.State) -> None:
                artifacts.write(checkpoint, states.from_state(state), header)
                progress.advance(state.meta_iteration - progress.done)

            final = training.train(settings, seeds_of(seeds), cell.value, state, after_interval)
        artifacts.write(out, states.from_state(final), header)
    if diverged := int((final.diverged_at > 0).sum()):
        _print_line(
            f"warning: {diverged} of {len(final.theta)} runs diverged; they stay in every table"
        )
    return out


def evaluate(running: Running, cell: Cell, group: str, seeds: str) -> Path:
    """Adapt trained initializations to the held-out tasks and measure their losses.

    Args:
        running: The study.
        cell: One of its cells, trained.
        group: A group of protocols.
        seeds: A block of seeds.

    Returns:
        The record.
    """
    from metabench.learning import evaluation
    from metabench.records import states

    _compute_with(running.engine)
    settings = running.study.evaluate_settings(cell, group)
    trained = running.layout.trained(cell.path, seeds)
    theta, content = states.read_theta(trained, settings, seeds)
    label = f"evaluate {cell.title}, {group}, seeds {seeds}"
    with Progress(label, len(settings.protocols)) as progress:
        found = evaluation.evaluate(settings, theta, cell.value, progress.advance)
    out = running.layout.evaluated(cell.path, group, seeds)
    header = headers.evaluation(settings, seeds, running.engine, content)
    artifacts.write(out, states.from_tensors(found), header)
    return out


def baselines(running: Running, group: str) -> Path:
    """Evaluate the baselines without seeds under a group of protocols; return the record."""
    from metabench.learning import baselines as predictors
    from metabench.records import states

    _one_thread()
    settings = running.study.baseline_settings(group)
    out = running.layout.baselines(group)
    found = states.from_tensors(predictors.evaluate(settings))
    artifacts.write(out, found, headers.of_baselines(settings))
    return out


def predictions(running: Running, name: str) -> Path:
    """Measure predictions that were made elsewhere, by their name; return the record."""
    from metabench.learning import predictions as answered
    from metabench.records import states

    _one_thread()
    settings, given = running.study.bank_settings, running.reader.answers(name)
    out = running.layout.predictions(name)
    found = states.from_tensors(answered.evaluate(settings, given.answers))
    artifacts.write(out, found, headers.of_predictions(settings, given))
    return out


def export_bank(
    running: Running, out: Path, training: int = 0, kinds: Sequence[str] = ("parquet", "npz")
) -> list[Path]:
    """Write the held-out tasks of a study for methods that predict elsewhere; return the files.

    The last one is their schema.

    Args:
        running: The study.
        out: The folder to write into.
        training: How many training tasks of each seed to write, too.
        kinds: Any of parquet, csv and npz.
    """
    from metabench.analysis import banks

    return banks.export(running.study, out, training, kinds)


def tables(running: Running) -> Path:
    """Aggregate the finished records of a study into tables; return their folder.

    The provenance of the results is written next to the tables.
    """
    from metabench.analysis import measured, suspicions
    from metabench.analysis import tables as tabulation
    from metabench.analysis.tables.selection import edge_warnings
    from metabench.records import provenance
    from metabench.records.artifacts import replacing

    study = measured.read(running)
    with Progress("tables", len(tabulation.names(running.study.config))) as progress:
        tabulation.write_all(study, running.layout.tables, progress.advance)
    edges = edge_warnings(running.layout.tables)
    for warning in (*edges, *suspicions.warnings(study.cells)):
        _print_line(warning)
    content = running.study.config.model_dump(mode="json")
    origin = {"study": content, "config": provenance.config_digest(content)}
    origin |= provenance.describe(running.engine)
    with replacing(running.layout.provenance) as temporary:
        text = json.dumps(origin, indent=2, sort_keys=True) + "\n"
        temporary.write_text(text, encoding="utf-8")
    return running.layout.tables


def figures(
    source: Path, out: Path, kinds: Sequence[str] = ("svg", "png"), look: str = "screen"
) -> list[Path]:
    """Draw every figure from a folder of tables alone; return the files.

    Args:
        source: The tables.
        out: The folder to draw into.
        kinds: Kinds of files: svg, png, pdf.
        look: What they are drawn for: screen or paper.
    """
    from metabench.views import figures as drawing

    with Progress("figures", drawing.count(source)) as progress:
        return drawing.draw_all(source, out, progress.advance, kinds, look)


def report(running: Running) -> Path:
    """Write the report of a study: one HTML file, from its tables alone."""
    from metabench.views import literature as published
    from metabench.views import report as page

    covered = published.covered(published.load(), running.study).rows
    beside = running.layout.literature if covered else None
    arguments = ("--study", running.study.name)
    return page.write(running.layout.tables, running.layout.report, beside, arguments)


def reference(root: Path, out: Path) -> Path:
    """Write the reference of a finished study; return its folder.

    Args:
        root: The study's folder.
        out: The folder to replace.
    """
    from metabench.views import figures as drawing
    from metabench.views import reference as keeping

    with Progress(f"reference {out.name}", 1 + drawing.count(root / "tables")) as progress:
        keeping.write(root, out, progress.advance)
    return out


def literature(rows: Path | None, studies: Path, out: Path, running: Running | None = None) -> str:
    """Compare published numbers with ours: write tables and a figure, return them in Markdown.

    Args:
        rows: A file of published numbers; by default those of metabench.
        studies: The folder of finished studies.
        out: The folder to write into.
        running: A study; if given, only the numbers that it covers.
    """
    from metabench.views import literature as published

    known = published.load(rows or published.ROWS)
    if running is not None:
        known = published.covered(known, running.study)
    return published.write_all(known, studies, out)


def record_of(running: Running, cell: Cell, seed: int) -> Path:
    """Return the training record of a study that contains a run."""
    from metabench import predict as prediction

    return prediction.record_of(running, cell, seed)


def predict(
    record: Path, seed: int, points: Path, updates: int, step_size: float | None, at: int
) -> str:
    """Adapt a trained initialization to the points of a CSV file; return the curve as CSV.

    Args:
        record: A training record.
        seed: Which of its runs.
        points: A file with the columns x and y, or x1, x2 and y where x has two features.
        updates: Full-batch gradient steps.
        step_size: Their size; by default the algorithm's own, or the one used in its validation.
        at: How many evenly spaced values of each feature of x to predict at.
    """
    from metabench import predict as prediction
    from metabench.analysis import frames

    _one_thread()
    support = frames.read_points(points, prediction.features_of(record))
    return frames.csv_text(prediction.curve(record, seed, support, updates, step_size, at))


def track_cells(running: Running, batch: str, store: str) -> int:
    """Mirror the runs of a batch of training jobs into MLflow; return the number of jobs.

    Runs that are already mirrored are left alone.

    Args:
        running: The study.
        batch: Name of the batch, as `metabench.workflow.artefacts.batches` gives it.
        store: Name of the store, as determined by the workflow.
    """
    from metabench.views.tracking import mirror
    from metabench.workflow.artefacts import batches

    known = batches(running)
    if batch not in known:
        raise ValueError(f"unknown batch {batch!r:.60}; choose from {', '.join(known)}")
    jobs = known[batch]
    with mirror.opened(running, store) as opened, Progress("track", len(jobs)) as progress:
        for cell, blocks in groupby(jobs, key=lambda job: job.cell):
            seeds = [job.seeds for job in blocks]
            opened.track_cell(cell, seeds)
            progress.advance(len(seeds))
    return len(jobs)


def track_study(running: Running, store: str) -> str:
    """Mirror the study's own run into MLflow, once all cells are mirrored.

    Returns:
        The number of runs, and the command that shows them.
    """
    from metabench.views.tracking import mirror

    with mirror.opened(running, store) as opened:
        return opened.track_study()


def _compute_with(engine: str) -> None:
    """Compute with the engine of a study and one thread; raise EngineError if it is unavailable."""
    from metabench.learning import engine as engines

    engines.use(engine)
    _one_thread()


def _one_thread() -> None:
    """Compute with one thread: more of them change the bits of a result."""
    import torch

    torch.set_num_threads(1)


def _print_line(line: Any) -> None:
    print(line, file=sys.stderr, flush=True)
