"""A SLURM cluster of two nodes on this machine, without or with an accounting database."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

from pipeline import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
OF_DATABASE = ("mariadbd", "slurmdbd")
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
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""

WITHOUT_DATABASE = """\
AccountingStorageType=accounting_storage/none
MinJobAge=86400
"""

WITH_DATABASE = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[3]}
AccountingStoragePass={folder}/munge.socket
MinJobAge=10
"""
"""The controller forgets finished jobs so soon that only the database can be asked."""

DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[3]}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[4]}
StorageUser=root
"""
"""The settings of slurmdbd."""

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

    def succeeds(self, *command: str) -> bool:
        """Return whether a command of SLURM does."""
        try:
            self.ask(*command)
        except subprocess.CalledProcessError:
            return False
        return True

    def idle(self) -> bool:
        """Return whether every node is up and has nothing to do."""
        return set(self.ask("sinfo", "--noheader", "--Node", "--format=%T").split()) == {"idle"}


def missing(*, database: bool = False) -> str:
    """Return why no cluster can be started here; empty if one can."""
    absent = [name for name in DAEMONS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: install Debian's slurm-wlm and munge"
    absent = [name for name in OF_DATABASE if database and shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: install Debian's slurmdbd and mariadb-server"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "Snakemake's plugin for SLURM not found: run `make setup-cluster`"
    return "" if os.geteuid() == 0 else "the daemons of SLURM must be started as root"


@contextmanager
def running(folder: Path, *, database: bool = False) -> Iterator[Cluster]:
    """Run a cluster while the body runs.

    Args:
        folder: Where it keeps its files.
        database: Whether it has an accounting database.
    """
    cluster = Cluster(folder)
    folder.chmod(0o755)  # munged wants a path that only root can write
    (folder / "state").mkdir()
    ports = [free_port() for _ in range(5)]
    settings = SETTINGS + (WITH_DATABASE if database else WITHOUT_DATABASE)
    filled = settings.format(host=gethostname(), folder=folder, ports=ports)
    (folder / "slurm.conf").write_text(filled)
    (folder / "bin").mkdir()
    (folder / "bin" / "srun").write_text(SRUN.format(folder=folder))
    (folder / "bin" / "srun").chmod(0o755)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munged += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid"]
    munged += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    with ExitStack() as daemons:
        daemons.enter_context(_daemon(munged, cluster))
        if database:
            _start_database(cluster, ports, daemons)
        for line in (["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)):
            daemons.enter_context(_daemon(line, cluster))
        _until(cluster.idle)
        yield cluster


def _start_database(cluster: Cluster, ports: list[int], daemons: ExitStack) -> None:
    """Start MariaDB and slurmdbd, and register the cluster."""
    folder = cluster.folder
    file = folder / "slurmdbd.conf"
    file.write_text(DATABASE.format(folder=folder, ports=ports))
    file.chmod(0o600)  # slurmdbd wants it so
    place = ["--no-defaults", "--user=root", f"--datadir={folder}/database"]
    cluster.ask("mariadb-install-db", *place, "--auth-root-authentication-method=normal")
    where = [f"--socket={folder}/database.socket", f"--port={ports[4]}"]
    mariadbd = ["mariadbd", *place, *where, "--bind-address=127.0.0.1"]
    for line in (mariadbd, ["slurmdbd", "-D"]):
        daemons.enter_context(_daemon(line, cluster))
    _until(lambda: cluster.succeeds("sacctmgr", "--immediate", "add", "cluster", "test"))


def _until(condition: Callable[[], bool]) -> None:
    """Wait until something is true of the daemons."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "a daemon of SLURM does not answer"
        time.sleep(0.5)


@contextmanager
def _daemon(line: list[str], cluster: Cluster) -> Iterator[None]:
    """Run a daemon while the body runs; it has a second to start."""
    with (cluster.folder / "daemons.log").open("ab") as log:
        daemon = subprocess.Popen(
            line, env=os.environ | cluster.variables, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        time.sleep(1)
        yield
    finally:
        daemon.terminate()
        daemon.wait()
