"""Work that processes share: results in order, one thread each, and no process left behind."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from numpy.testing import assert_array_equal
from threadpoolctl import threadpool_info

from metabench.records.sharing import shared


def square(n):
    return n * n, os.getpid()


@pytest.mark.parametrize("processes", [1, 2, 3, 20])
def test_results_come_in_the_order_of_the_items_from_as_many_processes(processes):
    found, ids = zip(*shared(square, range(7), processes), strict=True)
    assert found == (0, 1, 4, 9, 16, 25, 36)
    expected = min(processes, 7)
    assert len(set(ids)) == expected
    assert (os.getpid() in ids) == (expected == 1)


def test_no_items_have_no_results():
    assert list(shared(square, [], 2)) == []


def test_results_larger_than_a_pipe_arrive_whole():
    found = list(shared(lambda n: np.full(300_000, n), range(4), 2))
    assert_array_equal([one.sum() for one in found], 300_000 * np.arange(4))


@pytest.mark.parametrize("processes", [1, 2])
def test_each_process_has_one_thread(processes):
    threads = list(
        shared(lambda _: [one["num_threads"] for one in threadpool_info()], [0, 1], processes)
    )
    assert {count for found in threads for count in found} == {1}


@pytest.mark.parametrize("processes", [1, 2])
def test_what_the_work_raises_is_raised_and_no_process_is_left(processes):
    def work(n):
        if n == 3:
            raise ValueError("three")
        return n

    before = psutil.Process().children()
    found = shared(work, range(6), processes)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
    assert psutil.Process().children() == before


def test_a_killed_process_is_an_error():
    def work(n):
        if n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    with pytest.raises(RuntimeError, match="a process of this job was killed"):
        list(shared(work, range(4), 2))


ENDLESS = """
import os, time
from metabench.records.sharing import shared

def work(n):
    time.sleep(0.1)
    return os.getpid()

for result in shared(work, range(10**6), 2):
    print(result, flush=True)
"""


def test_no_process_outlives_a_killed_job():
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True
    ) as job:
        forks = {int(job.stdout.readline()) for _ in range(4)}
        assert len(forks) == 2
        job.kill()
    deadline = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{fork}") for fork in forks):
        assert time.monotonic() < deadline, "a fork goes on"
        time.sleep(0.1)
