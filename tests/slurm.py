"""A SLURM cluster of two nodes on this machine, without an accounting database."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

from pipeline import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n1", "n2")

SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
MinJobAge=86400
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""

SRUN = """\
#!/bin/sh
# The plugin clears SLURM_CONF before it calls srun: a real cluster has its settings in /etc.
SLURM_CONF={folder}/slurm.conf exec /usr/bin/srun "$@"
"""


class Cluster(NamedTuple):
    """A running cluster.

    Args:
        folder: Its settings, state and logs.
    """

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which commands find it."""
        path = os.pathsep.join([str(self.folder / "bin"), "/usr/bin", "/bin", "/usr/sbin"])
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def ask(self, *command: str) -> str:
        """Run a command of SLURM and return what it prints."""
        line = subprocess.run(
            command, env=os.environ | self.variables, capture_output=True, text=True, check=True
        )
        return line.stdout

    def idle(self) -> bool:
        """Return whether every node is up and has nothing to do."""
        return set(self.ask("sinfo", "--noheader", "--Node", "--format=%T").split()) == {"idle"}


def missing() -> str:
    """Return why no cluster can be started here; empty if one can."""
    absent = [name for name in DAEMONS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: install Debian's slurm-wlm and munge"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "Snakemake's plugin for SLURM not found: run `make setup-cluster`"
    return "" if os.geteuid() == 0 else "the daemons of SLURM must be started as root"


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Run a cluster while the body runs.

    Args:
        folder: Where it keeps its files.
    """
    cluster = Cluster(folder)
    folder.chmod(0o755)  # munged wants a path that only root can write
    (folder / "state").mkdir()
    ports = [free_port() for _ in range(3)]
    settings = SETTINGS.format(host=gethostname(), folder=folder, ports=ports)
    (folder / "slurm.conf").write_text(settings)
    (folder / "bin").mkdir()
    (folder / "bin" / "srun").write_text(SRUN.format(folder=folder))
    (folder / "bin" / "srun").chmod(0o755)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid"]
    munged += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    lines = [munged, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)]
    daemons = []
    try:
        for line in lines:
            daemons.append(_start(line, cluster))
            time.sleep(1)
        deadline = time.monotonic() + 60
        while not cluster.idle():
            assert time.monotonic() < deadline, cluster.ask("sinfo", "--list-reasons")
            time.sleep(0.5)
        yield cluster
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def _start(line: list[str], cluster: Cluster) -> subprocess.Popen[bytes]:
    with (cluster.folder / "daemons.log").open("ab") as log:
        return subprocess.Popen(
            line, env=os.environ | cluster.variables, stdout=log, stderr=subprocess.STDOUT
        )
