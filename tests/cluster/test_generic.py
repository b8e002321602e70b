"""The smoke study on clusters that a plain script stands for, as any scheduler could be called."""

from importlib.util import find_spec
from pathlib import Path

from pipeline import copy, snakemake_by_itself
from required import without
from soak import same

SCHEDULER = """\
#!/bin/sh
# A scheduler that starts every job at once.
sh "$1" > "$1.out" 2>&1 &
echo $!
"""

LATE = """\
#!/bin/sh
# A scheduler whose nodes see the files of other machines ten seconds late.
shared=$PWD node=$(mktemp -d -p "$(dirname "$PWD")")
cp -r Snakefile workflow profiles config environment.yml "$node"
sed "s|$shared/.snakemake|SNAKEMAKE|g; s|$shared|$node|g; s|SNAKEMAKE|$shared/.snakemake|g" \\
    "$1" > "$node/job"
{
    (sleep 10; cp -rl results "$node"; touch "$node/started") &
    sh "$node/job"  # which tells the workflow that it has finished, before the files can be seen
    wait
    sleep 10
    cd "$node" || exit
    # what the job wrote: other files have links in the shared folder
    find results -type f -newer started -links 1 \\
        -exec cp --link --force --parents {} "$shared" \\;
    rm -r "$node"
} > "$1.out" 2>&1 &
echo $!
"""

NO_LOCKS = """\
import errno, fcntl
def cannot(file, how):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = cannot
"""

OPTIONS = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "./submit"]


def run(folder: Path, script: str, **variables: str) -> str:
    """Run the smoke study with a scheduler's script; return what it printed."""
    if find_spec("snakemake_executor_plugin_cluster_generic") is None:
        without("Snakemake's generic plugin not found: run `make setup-cluster`")
    (folder / "submit").write_text(script)
    (folder / "submit").chmod(0o755)
    line = [*OPTIONS, "--jobs", "2", "--latency-wait", "60"]
    answer = snakemake_by_itself(folder, *line, **variables)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stderr


def test_a_plain_script_is_enough_of_a_scheduler(local: Path, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    assert "on 2 cores" in run(folder, SCHEDULER)  # a cluster has jobs, and no number of cores
    same(folder, local)


def test_files_that_are_seen_late_on_a_file_system_without_locks_change_nothing(
    local: Path, tmp_path: Path
) -> None:
    folder = copy(tmp_path / "study")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(NO_LOCKS)
    assert "without locks" in run(folder, LATE, PYTHONPATH=str(tmp_path / "without"))
    same(folder, local)
