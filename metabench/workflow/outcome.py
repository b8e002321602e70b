"""The closing message of a study: who is ahead, and where the results are."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from metabench.analysis import frames
from metabench.records import manifests
from metabench.records.artifacts import ArtifactError
from metabench.records.running import Running
from metabench.views.tracking import rest, store, ui
from metabench.views.tracking.processes import HOST, PORT
from metabench.workflow import staleness
from metabench.workflow.artefacts import Artefact, artefacts

AHEAD = 3
"""Algorithms that are named."""

LOCAL = f"http://{HOST}:{PORT}"
"""Where `metabench ui` serves a store that is a file."""


def line(running: Running, stale: dict[Path, str]) -> str:
    """Return the message for a study with nothing left to do.

    Args:
        running: The study.
        stale: Its stale files that were not requested.
    """
    tabled = running.layout.tables / manifests.NAME
    current = tabled.exists() and tabled not in stale
    if current:
        ahead = "; ".join(f"{protocol} {names}" for protocol, names in leaders(running).items())
        status = f"lowest scores: {ahead}"
    else:
        status = "the requested files exist"
    return f"study {running.study.name}: nothing to do; {status}"


def text(running: Running, name: str, took: str) -> str:
    """Return the message for a study that has just run.

    Args:
        running: The study.
        name: Name of the MLflow store that it filled.
        took: Duration of the run.
    """
    every = artefacts(running, name)
    stale = staleness.outdated(every)
    left = [artefact for artefact in every if not _is_there(artefact, stale)]
    if left:
        status = f"finished the requested files in {took}; {len(left)} other files are not built"
        return f"study {running.study.name}: {status}"
    ahead = leaders(running)
    width = max(map(len, ahead), default=0)
    lines = [
        f"study {running.study.name}: finished in {took}",
        "lowest scores of the selected cells (0 is perfect, 1 is predicting zero):",
        *(f"  {protocol:{width}}  {names}" for protocol, names in ahead.items()),
        *places(running),
    ]
    return "\n  ".join(lines)


def _is_there(artefact: Artefact, stale: dict[Path, str]) -> bool:
    return artefact.path.exists() and artefact.path not in stale


def leaders(running: Running) -> dict[str, str]:
    """Return, for each protocol, the algorithms whose selected cells have the lowest scores.

    The number is the mean score on the test bank.
    """
    ranking = frames.read(running.layout.tables, "ranking.csv")
    trained = {cell.algorithm for cell in running.study.cells}
    ranking = ranking[(ranking["role"] == "selected") & ranking["algorithm"].isin(trained)]
    found = {}
    for protocol in sorted(running.study.single_protocols):
        rows = ranking[ranking["protocol"] == protocol].nsmallest(AHEAD, "score")
        found[protocol] = ", ".join(f"{row.algorithm} {row.score:.3g}" for row in rows.itertuples())
    return found


def places(running: Running) -> list[str]:
    """Return where the results are, and the command that serves MLflow's pages."""
    layout, study = running.layout, running.study.name
    uri = store.uri_of(layout.root)
    found = [
        f"leaderboard  {layout.tables / 'leaderboard.csv'}",
        f"figures      {layout.figures}",
        f"report       {layout.report}",
    ]
    server = rest.hidden(uri) if rest.is_server(uri) else LOCAL
    serving = f"{store.program('metabench')} ui --study {study}"
    found.append(f"MLflow       {serving if server == LOCAL else server}")
    with suppress(ArtifactError):  # the store need not answer for the study to be finished
        found.append(ui.page(server, ui.experiment(layout.root, study)))
    return found
