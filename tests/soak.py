"""Kill a real study at random moments, restart it, and check that no work is lost or changed.

python tests/soak.py --kills 200 --out results/soak/kills.csv        what `make soak` does

Three kinds of SIGKILL: `job` hits one job's process, `snakemake` hits Snakemake and leaves its jobs
running as orphans, `group` hits everything at once. After a kill of the last two the same command
starts again at once, with no step between. A kill is survived if every finished file is whole right
after it, no meta-iteration that a checkpoint held is trained again, the study then ends by itself,
and the bytes of its records, tables and figures and the runs in MLflow are those of a study that
nobody disturbed.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil
from pipeline import BIN, copy, digests, environment, snakemake_by_itself

from metabench.records import artifacts, running
from metabench.workflow.progress import Progress

KINDS = ("group", "snakemake", "job")
COMPARED = ("train", "evaluate", "baselines", "tables", "figures")
"""Folders of a study whose bytes must be the same after any kill."""


class Kill(NamedTuple):
    """What one kill did."""

    study: int
    kind: str
    seconds: float
    """After the start of Snakemake, or after the last kill of a job."""
    hit: str
    """The command whose process was hit, or the stage that the study had come to."""
    held: int
    """Meta-iterations that all checkpoints together held just after."""


def start(folder: Path, order: random.Random) -> subprocess.Popen[bytes]:
    """Start the smoke study in a session of its own, its training jobs in a random order of
    preference.
    """
    preferred = sorted(str(path) for path in targets(folder))
    order.shuffle(preferred)
    command = [
        BIN / "snakemake",
        "--configfile",
        "config/smoke.yaml",
        "--cores",
        "2",
        "--prioritize",
        *preferred[:3],
    ]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def targets(folder: Path) -> list[Path]:
    """Return the trained records of the smoke study, seen from its folder."""
    study = running.read(folder / "config" / "smoke.yaml")
    return [study.layout.trained(cell.path, seeds) for cell, seeds in study.study.train_jobs]


def jobs(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the running jobs of a Snakemake process."""
    try:
        return [
            p
            for p in psutil.Process(process.pid).children(recursive=True)
            if "metabench" in " ".join(p.cmdline())
        ]
    except psutil.Error:
        return []


def kill(process: subprocess.Popen[bytes], kind: str, choice: random.Random) -> str | None:
    """Kill once; return the command that was hit, or None where there was nothing to hit."""
    alive = jobs(process)
    commands = sorted({command(p) for p in alive} - {""})
    if kind == "job":
        bodies = [p for p in alive if command(p)]
        if not bodies:
            return None
        body = choice.choice(bodies)
        hit = command(body)
        body.send_signal(signal.SIGKILL)
        return hit
    if process.poll() is not None:
        return None
    (os.killpg if kind == "group" else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    return "+".join(commands) or "snakemake"


def command(process: psutil.Process) -> str:
    """Return which of the metabench commands a process is, empty for the shell around it."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    return words[2] if len(words) > 2 and words[1].endswith("/metabench") else ""


def held(folder: Path) -> dict[Path, int]:
    """Return the meta-iterations that each checkpoint holds; every record found must be whole."""
    root, found = folder / "results" / "smoke", {}
    for path in root.glob("*/**/[!.]*.safetensors"):
        try:
            arrays, _ = artifacts.read(path)
        except artifacts.ArtifactError:
            if path.exists():  # Snakemake deletes what a failed job left
                raise
            continue
        if path.is_relative_to(root / "checkpoints"):
            found[path] = int(arrays["meta_iteration"][0])
    return found


def disturbed(
    folder: Path, seed: int, kinds: Iterator[str], longest: float = 9.0
) -> Iterator[Kill]:
    """Run the smoke study in a folder, killing it again and again until it ends by itself.

    Args:
        folder: A copy of the workflow.
        seed: Of the moments and victims.
        kinds: What to kill each time; when they are used up the study is left alone.
        longest: Seconds between two kills at most.

    Raises:
        AssertionError: Something was lost, or the study did not go on.
    """
    choice = random.Random(seed)
    process, failed, before = start(folder, choice), False, held(folder)
    for kind in kinds:
        seconds = choice.uniform(0.5, longest)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            hit = kill(process, kind, choice)
            if hit:
                kept = held(folder)
                assert all(kept[path] >= count for path, count in before.items()), (
                    "a checkpoint went back"
                )
                before = kept
                yield Kill(seed, kind, round(seconds, 2), hit, sum(kept.values()))
                failed = failed or kind == "job"
                if kind != "job":
                    process, failed = start(folder, choice), False
            continue
        if not failed:
            break
        # A job was killed, so Snakemake ended with an error.
        process, failed = start(folder, choice), False
    for _ in range(3):
        code = process.wait()
        if code == 0:
            return
        assert failed, f"the study ended with {code}:\n{(folder / 'log').read_text()[-5000:]}"
        process, failed = start(folder, choice), False
    raise AssertionError(f"the study does not end:\n{(folder / 'log').read_text()[-5000:]}")


def same(folder: Path, undisturbed: Path) -> None:
    """Hold a finished study against an undisturbed one.

    Raises:
        AssertionError: They differ, or something is left over.
    """
    assert digests(folder, *COMPARED) == digests(undisturbed, *COMPARED)
    left = [
        path for path in (folder / "results").rglob(".*") if path.is_file() and path.name != ".lock"
    ]
    assert not left, f"left over: {left}"
    assert tracked(folder) == tracked(undisturbed), "MLflow shows other runs"


def tracked(folder: Path) -> list[tuple[str, str]]:
    """Return the name of each run in MLflow, with the digest of what it shows if it is a seed's."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/results/smoke/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "smoke"]
    runs = client.search_runs([experiment.experiment_id])
    # The digest of the study's own run covers provenance too, which differs between two studies.
    digest = {"run": "metabench.digest", "study": "metabench.kind"}
    return sorted(
        (run.info.run_name, run.data.tags[digest[run.data.tags["metabench.kind"]]]) for run in runs
    )


def main() -> None:
    """Kill until enough kills were survived; print how many."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    parser.add_argument(
        "--out", type=Path, default=Path("results/soak/kills.csv"), help="a row for each kill"
    )
    given = parser.parse_args()
    found: list[Kill] = []
    with TemporaryDirectory() as temporary, Progress("soak", given.kills) as progress:
        undisturbed = copy(Path(temporary) / "undisturbed")
        answer = snakemake_by_itself(undisturbed, "--cores", "2")
        assert answer.returncode == 0, answer.stdout + answer.stderr
        choice, study = random.Random(given.seed), given.seed
        while len(found) < given.kills:
            study += 1
            folder = copy(Path(temporary) / str(study))
            kinds = (choice.choice(KINDS) for _ in range(given.kills - len(found)))
            for killed in disturbed(folder, study, kinds):
                found.append(killed)
                progress.advance()
            same(folder, undisturbed)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Kill._fields)
        writer.writerows(found)
    print(f"survived {len(found)} of {given.kills} kills in {study - given.seed} studies")


if __name__ == "__main__":
    main()
