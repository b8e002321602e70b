"""Work that several processes share: forks of this one, which have what it has read.

A fork computes every n-th item and sends its results through a pipe. It ends with its last item, or
when it finds that nobody reads the pipe any more, so no fork outlives a killed job for long.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def shared(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Iterator[Result]:
    """Yield the result of each item, in their order; the bits do not depend on the processes.

    Args:
        work: What to do with an item. Only its results are pickled.
        items: The items.
        processes: Number of processes; only one on systems other than Linux, where libraries may
            not survive a fork.

    Raises:
        RuntimeError: A process was killed.
    """
    count = min(processes, len(items)) if sys.platform == "linux" else 1
    # A product of matrices by several threads may have other bits, and each process has one core.
    with threadpool_limits(1):
        if count <= 1:
            yield from map(work, items)
            return
        readers: list[Connection] = []
        forks = [_fork(work, items[n::count], readers) for n in range(count)]
        try:
            for n in range(len(items)):
                yield _received(readers[n % count])
        finally:
            for reader in readers:
                reader.close()
            for fork in forks:
                os.waitpid(fork, 0)


def _fork(work: Callable[[Item], Any], items: Sequence[Item], readers: list[Connection]) -> int:
    """Start a process that computes some items; add the end of its pipe to the readers."""
    reader, writer = Pipe(duplex=False)
    readers.append(reader)
    if fork := os.fork():
        writer.close()
        return fork
    _send(work, items, readers, writer)


def _send(
    work: Callable[[Item], Any],
    items: Sequence[Item],
    readers: Sequence[Connection],
    writer: Connection,
) -> NoReturn:
    """Send the results of some items through a pipe, and end this process."""
    try:
        # An end that is open here would hide that nobody reads.
        for reader in readers:
            reader.close()
        for item in items:
            try:
                result, error = work(item), None
            except Exception as raised:
                result, error = None, raised
            writer.send((result, error))
    finally:
        os._exit(0)


def _received(reader: Connection) -> Any:
    """Return a result that a process sent; raise what it raised."""
    try:
        result, error = reader.recv()
    except EOFError:
        raise RuntimeError("a process of this job was killed") from None
    if error is not None:
        raise error
    return result
