"""Tests that need what few machines have: skipped without it, unless they were asked for.

`make test-cluster` and `make test-server` set METABENCH_REQUIRED, so that they never pass without
having tested anything.
"""

import os
from typing import NoReturn

import pytest

REQUIRED = "METABENCH_REQUIRED"


def without(reason: str) -> NoReturn:
    """Skip or fail what cannot be tested here."""
    if REQUIRED in os.environ:
        pytest.fail(f"{reason}; {REQUIRED} is set", pytrace=False)
    pytest.skip(reason)
