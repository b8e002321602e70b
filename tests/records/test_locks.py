import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

from metabench.records import lock_files, locks

HOLD = (
    "import fcntl, os, sys, time; from pathlib import Path; from metabench.records import locks\n"
)
CANNOT = f"""
def cannot(file, how):
    raise OSError({errno.ENOLCK}, "No locks available")
fcntl.flock = cannot
"""


@pytest.fixture(params=["with flock", "without flock"])
def before(request, monkeypatch):
    """What another process does first, on a file system with locks and on one without."""
    if request.param == "with flock":
        return HOLD
    _without_flock(monkeypatch)
    return HOLD + CANNOT


@pytest.fixture
def without_flock(monkeypatch):
    """A file system that cannot lock."""
    _without_flock(monkeypatch)


def _without_flock(monkeypatch):
    def cannot(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", cannot)
    monkeypatch.setattr(lock_files, "ASK", 0.05)
    monkeypatch.setattr(locks, "_warned", set())


def other(code):
    """Start another process that says when it has come to the line with `print`."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    return process


def test_a_lock_is_held_by_one_process_at_a_time_and_ends_with_it_however_it_ends(before, tmp_path):
    path = tmp_path / "new" / "lock"
    code = f"held = locks.take(Path({str(path)!r})); print('there', flush=True); time.sleep(60)"
    process = other(before + code)
    assert locks.take(path) is None and locks.holder(path).split()[0] == str(process.pid)
    process.kill()
    process.communicate()
    taken = locks.take(path)
    assert taken is not None and locks.take(path) is None, "not even by the same process twice"
    taken.close()
    locks.take(path).close()


def test_who_comes_second_says_whom_it_waits_for_and_waits(before, tmp_path, capsys):
    path = tmp_path / "lock"
    code = f"with locks.alone(Path({str(path)!r}), ''): print('there', flush=True); time.sleep(1)"
    process, start = other(before + code), time.monotonic()
    with locks.alone(path, "which trains the same runs"):
        assert time.monotonic() - start > 0.5
    waiting = [line for line in capsys.readouterr().err.splitlines() if "waiting" in line]
    advice = f" (if it has ended, delete {path}.held)" if CANNOT in before else ""
    message = f"waiting for process {process.pid}{advice}, which trains the same runs"
    assert waiting == [message]
    process.communicate()


def test_a_file_system_without_locks_is_said_once_of_a_folder_and_nothing_is_left(
    without_flock, tmp_path, capsys
):
    for name in ("a", "b", "a"):
        with locks.alone(tmp_path / name, ""):
            assert (tmp_path / f"{name}.held").exists()
    message = capsys.readouterr().err
    assert message == (
        f"warning: {tmp_path} is on a file system without locks (No locks available); "
        "files that end in .held take their place\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_lock_that_is_a_file_is_given_back_where_its_process_ends_without_a_word(
    before, tmp_path
):
    path = tmp_path / "lock"
    other(before + f"held = locks.take(Path({str(path)!r})); print('there')").communicate()
    assert not (tmp_path / "lock.held").exists()
    locks.take(path).close()


def test_a_lock_of_another_machine_is_kept_while_its_time_is_renewed(
    without_flock, tmp_path, monkeypatch
):
    path, held = tmp_path / "lock", tmp_path / "lock.held"
    held.write_text("node7 1 12345")
    assert locks.take(path) is None
    assert locks.holder(path) == f"1 on node7 (if it has ended, delete {held})"
    now = time.time()
    os.utime(held, (now, now - 2 * lock_files.DEAD))
    monkeypatch.setattr(lock_files, "RENEW", 0.01)
    taken = locks.take(path)
    assert taken is not None
    os.utime(held, (now, now - 2 * lock_files.DEAD))
    deadline = time.monotonic() + 10
    while lock_files._silent(held):
        assert time.monotonic() < deadline
    taken.close()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("started", ["1", ""])
def test_a_number_that_was_given_to_another_process_holds_nothing(without_flock, tmp_path, started):
    path = tmp_path / "lock"
    (tmp_path / "lock.held").write_text(f"{lock_files.node()} {os.getpid()} {started}")
    taken = locks.take(path)
    assert taken is not None
    taken.close()


def test_a_file_that_is_being_written_holds_the_lock(without_flock, tmp_path):
    (tmp_path / "lock.held").touch()
    assert locks.take(tmp_path / "lock") is None


def test_the_end_of_a_fork_does_not_give_the_lock_back(without_flock, tmp_path):
    taken = locks.take(tmp_path / "lock")
    child = os.fork()
    if not child:
        taken.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert locks.take(tmp_path / "lock") is None
    taken.close()


def left_by_a_dead_process(path):
    held = path.with_name(f"{path.name}.held")
    held.write_text(f"{lock_files.node()} {os.getpid()} 1")
    return held


def test_who_is_slow_to_remove_a_dead_lock_does_not_remove_the_one_that_came_after(
    without_flock, tmp_path, monkeypatch
):
    held, make = left_by_a_dead_process(tmp_path / "lock"), lock_files._make
    alive = lock_files._identity(os.getpid())

    def slowly(path, mine):
        if path != held:  # another process has removed the dead one, and taken the lock
            held.write_text(alive)
        return make(path, mine)

    monkeypatch.setattr(lock_files, "_make", slowly)
    assert locks.take(tmp_path / "lock") is None
    assert held.read_text() == alive and len(list(tmp_path.iterdir())) == 2


def test_one_process_at_a_time_removes_a_dead_lock_and_one_that_was_killed_then_is_no_obstacle(
    without_flock, tmp_path
):
    held, removing = left_by_a_dead_process(tmp_path / "lock"), tmp_path / "lock.held.removing"
    removing.touch()
    assert locks.take(tmp_path / "lock") is None and held.exists()
    os.utime(removing, (0, 0))
    assert locks.take(tmp_path / "lock") is None and not removing.exists()
    taken = locks.take(tmp_path / "lock")
    assert taken is not None
    taken.close()
