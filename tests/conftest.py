"""One thread, as in every job: the number of threads changes the bits of results, here and in the
processes that tests start.
"""

import os

# Before torch is imported anywhere, since it reads them once.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MKL_CBWR": "AUTO,STRICT"}

import signal
import sys
from pathlib import Path

import pytest

from metabench.learning import engine
from metabench.workflow import checkout

# What a shell runs in the background ignores interrupts, and so would what tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests of a copied checkout would test the original.
if reason := checkout.stray_command(Path(sys.argv[0]), Path(__file__).resolve().parents[1]):
    pytest.exit(reason, 2)


@pytest.fixture
def choose_engine(monkeypatch):
    """A function that makes an engine compute until the test ends; what was chosen before is
    forgotten.
    """
    caches = engine.name, engine.library

    def choose(name):
        monkeypatch.setenv(engine.VARIABLE, name)
        for cache in caches:
            cache.cache_clear()

    yield choose
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.fixture(params=engine.NAMES)
def each_engine(request, choose_engine):
    """Both engines, one after the other."""
    if request.param == "fused" and engine.library() is None:
        pytest.skip("no kernel was compiled here")
    choose_engine(request.param)
    return request.param
