"""A shared server with two users."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import served
from pipeline import free_port
from required import without
from served import Server, User


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    """Run no test of this folder where no server can be started."""
    if reason := served.missing():
        without(reason)


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder for a server's data, in which nothing is."""
    with served.data_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A running server, whose database was empty."""
    with served.data_folder() as folder, served.running(folder, free_port()) as found:
        yield found


@pytest.fixture(scope="module")
def anna(shared: Server) -> User:
    """A user."""
    return served.add_user(shared, "anna")


@pytest.fixture(scope="module")
def ben(shared: Server) -> User:
    """Another user."""
    return served.add_user(shared, "ben")
