"""The command line: parse, call a job, print. Each rule of the workflow is one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from metabench import __version__
from metabench.options import (
    EXISTING,
    FILE,
    FOLDER,
    MOST,
    TABLES,
    Answering,
    StepSize,
    StudyType,
    answer,
    cell_option,
    columns_option,
    form_option,
    group_option,
    kinds_option,
    seeds_option,
    store_option,
    study_option,
    tables_option,
    where_option,
)

if TYPE_CHECKING:
    from metabench.records.running import Running


@click.group(
    cls=Answering,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
def main() -> None:
    """Few-shot regression by meta-learning: plan, train, evaluate, tabulate, draw and more."""
    from metabench.workflow import checkout, forking

    if reason := checkout.stray_command(Path(sys.argv[0]), Path.cwd()):
        answer(reason, 2)
    if (code := forking.exit_code_of_fork()) is not None:
        sys.exit(code)


@main.command()
@click.option(
    "--study",
    "--config",
    "running",
    type=StudyType(started=False),
    default="flux",
    show_default=True,
    help="Name of a study in config/, or its file.",
)
@click.option(
    "--cores",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Jobs that run at a time.",
)
def plan(running: Running, cores: int) -> None:
    """Print a study's cells, predictions, jobs and expected minutes before anything runs."""
    from metabench.workflow import estimate

    click.echo(estimate.plan(running, cores))


@main.command()
@study_option
@cell_option
@seeds_option
def train(running: Running, cell: str, seeds: str) -> None:
    """Meta-train one block of seeds of one cell; resume from a checkpoint if there is one."""
    from metabench import jobs

    jobs.train(running, running.study.cell(cell), seeds)


@main.command()
@study_option
@cell_option
@group_option
@seeds_option
def evaluate(running: Running, cell: str, group: str, seeds: str) -> None:
    """Adapt trained initializations to the held-out tasks and measure their losses."""
    from metabench import jobs

    jobs.evaluate(running, running.study.cell(cell), running.study.group(group), seeds)


@main.command()
@study_option
@group_option
def baselines(running: Running, group: str) -> None:
    """Evaluate the baselines without seeds: zero, least squares and those that learn from tasks."""
    from metabench import jobs

    jobs.baselines(running, running.study.group(group))


@main.command()
@study_option
@click.option("--name", required=True, help="Name of the predictions, as the study has it.")
def predictions(running: Running, name: str) -> None:
    """Measure predictions that were made elsewhere."""
    from metabench import jobs

    if name not in running.study.predictions:
        known = ", ".join(running.study.predictions) or "none"
        raise click.UsageError(f"the study has no predictions {name}; choose from {known}")
    jobs.predictions(running, name)


@main.group()
def bank() -> None:
    """Hand out the held-out tasks of a study, for methods in any language to predict."""


@bank.command("export")
@study_option
@click.option("--out", type=FOLDER, required=True, help="Folder to write into.")
@click.option(
    "--training",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="Number of training tasks of each seed to write, too.",
)
@kinds_option("parquet", "npz", more=("csv",))
def export_bank(running: Running, out: Path, training: int, kinds: tuple[str, ...]) -> None:
    """Write support points and query inputs of every held-out task, without the test labels.

    schema.json describes the files, and the predictions that are expected.
    Predictions for test-query go into a file with one more column, prediction, which a study names
    under cells.
    """
    from metabench import jobs

    for path in jobs.export_bank(running, out, training, kinds):
        click.echo(path)


@main.command()
@study_option
def tables(running: Running) -> None:
    """Aggregate the finished records of a study into tables, with their provenance."""
    from metabench import jobs

    jobs.tables(running)


@main.command()
@tables_option
@click.option("--out", type=FOLDER, required=True, help="Folder to draw into.")
@kinds_option("svg", "png", more=("pdf",))
@click.option(
    "--style",
    "look",
    type=click.Choice(["screen", "paper"]),
    default="screen",
    show_default=True,
    help="What they are drawn for. "
    "Those for a paper fit its columns, and have captions beside them.",
)
def figures(source: Path, out: Path, kinds: tuple[str, ...], look: str) -> None:
    """Draw every figure from a folder of tables alone."""
    from metabench import jobs

    jobs.figures(source, out, kinds, look)


@main.command()
@click.argument("name")
@tables_option
@columns_option
@where_option
@form_option
def table(name: str, source: Path, columns: tuple[str, ...], where: str, form: str) -> None:
    """Print part of a table by its name, for instance leaderboard: text, CSV, Markdown or LaTeX."""
    from metabench.analysis import frames, tables
    from metabench.records import manifests
    from metabench.views import excerpt

    manifests.read(source)
    known = {Path(file).stem: file for file in tables.of_folder(source)}
    if name not in known:
        raise click.UsageError(f"{name} is not a table; choose from {', '.join(known)}")
    found = frames.read(source, known[name])
    click.echo(excerpt.excerpt(found, columns, where, form), nl=False)


@main.command()
@click.argument("a", type=TABLES)
@click.argument("b", type=TABLES)
@columns_option
@where_option
@form_option
@click.option("--page", type=FILE, help="Write it as an HTML page, too.")
def compare(
    a: Path, b: Path, columns: tuple[str, ...], where: str, form: str, page: Path | None
) -> None:
    """Compare what two studies share: print scores and paired differences.

    A and B are folders of studies or of tables, for instance results/flux results/reference/flux.
    """
    from metabench.analysis import paired
    from metabench.views import comparison, excerpt

    found = paired.compare(a, b)
    click.echo(excerpt.excerpt(found, columns, where, form), nl=False)
    if page:
        comparison.write(found, a, b, page)


@main.command()
@click.option("--study", "running", type=StudyType(), help="A finished study.")
@click.option(
    "--tables", "source", type=TABLES, help="Folder of tables, instead of a study; needs --out."
)
@click.option("--out", type=FILE, help="File to write [default: report.html of the study].")
def report(running: Running | None, source: Path | None, out: Path | None) -> None:
    """Write the report of a study as one HTML page that works offline."""
    from metabench import jobs
    from metabench.views import report as page

    if (running is None) == (source is None) or (source is None) != (out is None):
        raise click.UsageError("give either --study, or --tables and --out")
    written = jobs.report(running) if running else page.write(Path(str(source)), Path(str(out)))
    click.echo(written)


@main.command()
@study_option
@click.option("--cell", help="ALGORITHM/NAME of a cell, for instance reptile/published.")
@click.option("--theta", type=EXISTING, help="Trained record, instead of a study and a cell.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Training seed.")
@click.option(
    "--points",
    type=EXISTING,
    required=True,
    help="CSV file with the columns x (or x1 and x2) and y.",
)
@click.option(
    "--updates",
    type=click.IntRange(0, MOST),
    default=10,
    show_default=True,
    help="Number of gradient steps.",
)
@click.option(
    "--step-size", type=StepSize(0, MOST, min_open=True), help="Their size [default: its own]."
)
@click.option(
    "--at",
    type=click.IntRange(2, MOST),
    default=50,
    show_default=True,
    help="Number of points to predict at, of each coordinate of x.",
)
def predict(
    running: Running,
    cell: str | None,
    theta: Path | None,
    seed: int,
    points: Path,
    updates: int,
    step_size: float | None,
    at: int,
) -> None:
    """Adapt a trained initialization to the points of a CSV file; print the curve as CSV."""
    from metabench import jobs

    if (cell is None) == (theta is None):
        raise click.UsageError("give either --cell or --theta, and not both")
    record = theta or jobs.record_of(running, running.study.cell(str(cell)), seed)
    click.echo(jobs.predict(record, seed, points, updates, step_size, at), nl=False)


@main.command("check-algorithm")
@click.argument("algorithm")
def check_algorithm(algorithm: str) -> None:
    """Check an algorithm, by name or file, and report what is wrong; exit with 1 if anything is."""
    from metabench import check_algorithm as checks

    wrong, tried = 0, 0
    try:
        for found in checks.findings(algorithm):
            tried += 1
            wrong += found.wrong is not None
            click.echo(f"{'ok   ' if found.wrong is None else 'WRONG'} {found.rule}")
            if found.wrong:
                click.echo(f"      {found.check}: {found.wrong}")
    except ValueError as error:
        answer(str(error), 2)
    for line in checks.remark_lines(algorithm):
        click.echo(f"note  {line}")
    left = len(checks.CHECKS) - tried
    verdict = f"{wrong} of {tried} checks fail" if wrong else f"all {tried} checks pass"
    click.echo(f"{algorithm}: {verdict}{f'; {left} others need them' if left else ''}")
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
@tables_option
@click.option(
    "--best",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Cells that each algorithm keeps under each protocol.",
)
def shortlist(source: Path, best: int) -> None:
    """Print the best cells of a study, by their validation scores, as cells of a study file.

    A study with few seeds and many cells can then be followed by one with many seeds and few cells.
    """
    from metabench.analysis import shortlist as choice
    from metabench.records import manifests

    manifests.read(source)
    click.echo(choice.yaml_text(source, best), nl=False)


@main.command()
@click.option("--rows", type=EXISTING, help="Published numbers [default: those of metabench].")
@click.option(
    "--studies",
    type=TABLES,
    help="Folder of finished studies [default: results/reference, or that of --study].",
)
@click.option(
    "--study", "running", type=StudyType(), help="Study; only the numbers that it covers."
)
@click.option(
    "--out",
    type=FOLDER,
    default="results/literature",
    show_default=True,
    help="Folder to write into.",
)
def literature(rows: Path | None, studies: Path | None, running: Running | None, out: Path) -> None:
    """Compare published numbers with ours: tables, a figure, and Markdown on the terminal."""
    from metabench import jobs

    if studies is None:
        studies = Path("results/reference") if running is None else running.layout.root.parent
    click.echo(jobs.literature(rows, studies, out, running))


@main.command()
@tables_option
@click.option("--reference", type=TABLES, required=True, help="Folder of tables to compare with.")
@click.option(
    "--level",
    type=click.Choice(["identical", "rounding", "consistent"]),
    default="rounding",
    show_default=True,
    help="Level to reach.",
)
@click.option("--out", type=FILE, help="File for how far each column is off (CSV).")
def verify(source: Path, reference: Path, level: str, out: Path | None) -> None:
    """Compare tables with those of a reference; exit with 1 if they do not reach a level.

    identical: every table has the same values. rounding: equal except for the rounding of a
    different processor. consistent: no further apart than two trainings with different random
    numbers.
    """
    from metabench.analysis import frames
    from metabench.analysis.verification.compare import compare
    from metabench.analysis.verification.report import report

    found = compare(source, reference)
    if out is not None:
        frames.write(found.deviations, out)
    click.echo(report(found, level))
    sys.exit(0 if found.reaches(level) else 1)


@main.command()
@click.option(
    "--root",
    type=TABLES,
    required=True,
    help="Folder of a finished study, for instance results/flux.",
)
@click.option(
    "--out", type=FOLDER, required=True, help="Folder to replace, as results/reference/flux."
)
def reference(root: Path, out: Path) -> None:
    """Write the reference of a finished study: reduced tables, figures, provenance.

    Tables keep the digits and rows that `verify` and the figures need, and digests of the full
    files. Figures are drawn from them, as PNG. The study's folder is not changed.
    """
    from metabench import jobs

    jobs.reference(root, out)


@main.command()
@study_option
@click.argument("folders", nargs=-1, required=True, type=TABLES)
def merge(running: Running, folders: tuple[Path, ...]) -> None:
    """Import records of other machines that fit a study; exit with 1 if any were refused.

    The folders hold results of the same study, for instance there/results/flux, for other cells or
    other blocks of seeds. Records are refused that do not fit, or that differ from those of another
    machine for the same job; each reason is one line. Run the study afterwards: it computes what is
    missing, and the tables.
    """
    from metabench.workflow import merging

    found = merging.merge(running, folders)
    for line in found.refused:
        click.echo(f"metabench: {line}", err=True)
    click.echo(
        f"{found.taken} records imported, {found.known} already there, {found.missing} missing"
    )
    sys.exit(1 if found.refused else 0)


@main.group()
def track() -> None:
    """Mirror finished records into MLflow: the study's own store, or MLFLOW_TRACKING_URI."""


@track.command("cells")
@study_option
@click.option("--batch", required=True, help="Batch of training jobs, for instance cells_0.")
@store_option
def track_cells(running: Running, batch: str, store: str) -> None:
    """Mirror the runs of a batch of training jobs; already mirrored runs are left alone."""
    from metabench import jobs

    try:
        jobs.track_cells(running, batch, store)
    except ValueError as error:
        answer(str(error), 2)


@track.command("study")
@study_option
@store_option
def track_study(running: Running, store: str) -> None:
    """Mirror the study's own run once all cells are mirrored, and print how to view it."""
    from metabench import jobs

    click.echo(jobs.track_study(running, store))


port_option = click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=5000,
    show_default=True,
    help="Where MLflow listens, on this machine alone.",
)


@main.command()
@study_option
@port_option
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def ui(running: Running, port: int, opened: bool) -> None:
    """Show a study's runs in MLflow: print the address of their page, and serve it until Ctrl-C."""
    import webbrowser
    from contextlib import suppress

    from metabench.views.tracking import ui as pages

    _end_like_ctrl_c()
    root, study = running.layout.root, running.study.name
    experiment = pages.experiment(root, study)
    with suppress(KeyboardInterrupt), pages.serving(root, port) as server:
        address = pages.page(server.address, experiment)
        click.echo(address)
        if opened:
            webbrowser.open(address)
        if server.process is not None:
            click.echo("serving until Ctrl-C", err=True)
            server.process.wait()
            answer("MLflow's server has ended", 2)


SERVED = """\
MLflow: {address}
The user admin adds users at {address}/#/admin; its first password is in
{folder}/admin-password
A study is tracked there with
  export MLFLOW_TRACKING_URI={address}
  export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=...\
"""


@main.command()
@click.option("--data", type=FOLDER, required=True, help="Folder of the database and artifacts.")
@port_option
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Processes of MLflow that answer requests.",
)
def server(data: Path, port: int, workers: int) -> None:
    """Serve MLflow for several users until Ctrl-C: PostgreSQL, user names, artifacts.

    A second start with the same folder finds everything again.
    """
    import time
    from contextlib import suppress

    from metabench.views.tracking import server as shared

    _end_like_ctrl_c()
    with suppress(KeyboardInterrupt), shared.running(data, port, workers) as found:
        click.echo(SERVED.format(address=found.address, folder=data))
        click.echo("serving until Ctrl-C", err=True)
        while True:
            for name, process in found.processes.items():
                if process.poll() is not None:
                    answer(f"{name} has ended; see the logs in {data}", 2)
            time.sleep(1)


def _end_like_ctrl_c() -> None:
    """Let a closed terminal and a request to end do the same as Ctrl-C."""
    import signal

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@main.command(hidden=True)
@click.argument("listener", type=int)
@click.argument("folder", type=FOLDER)
def forks(listener: int, folder: Path) -> None:
    """Fork for the commands that connect to the listener, a socket in the folder.

    The workflow starts this.
    """
    from metabench.workflow import forking

    forking.serve(listener, folder, main)
