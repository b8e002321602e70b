import subprocess
import sys
import time

from metabench.records import locks

HOLD = "import sys, time; from pathlib import Path; from metabench.records import locks\n"


def other(code):
    """Start another process that says when it has come to the line with `print`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "there\n"
    return process


def test_a_lock_is_held_by_one_process_at_a_time_and_ends_with_it_however_it_ends(tmp_path):
    path = tmp_path / "new" / "lock"
    process = other(
        f"held = locks.take(Path({str(path)!r})); print('there', flush=True); time.sleep(60)"
    )
    assert locks.take(path) is None and locks.holder(path) == str(process.pid)
    process.kill()
    process.communicate()
    taken = locks.take(path)
    assert taken is not None and locks.take(path) is None, "not even by the same process twice"
    taken.close()
    locks.take(path).close()


def test_who_comes_second_says_whom_it_waits_for_and_waits(tmp_path, capsys):
    path = tmp_path / "lock"
    code = f"with locks.alone(Path({str(path)!r}), ''): print('there', flush=True); time.sleep(1)"
    process, start = other(code), time.monotonic()
    with locks.alone(path, "which trains the same runs"):
        assert time.monotonic() - start > 0.5
    said = capsys.readouterr().err
    assert said == f"waiting for process {process.pid}, which trains the same runs\n"
    process.communicate()
