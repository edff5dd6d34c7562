"""Pieces of work that need nothing of each other, side by side: each in a thread of its own.

The threads with which torch computes one layer wait for each other at its end. Where another
program keeps a core busy all of them wait for the slowest, layer after layer. What is handed out in
whole passes of a network waits once, at the end of each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Here(threading.local):
    """What this thread may hand out work to. A lane itself has no further lanes."""

    count: int = 1
    pool: ThreadPoolExecutor


_here = _Here()


@contextmanager
def opened(count: int) -> Iterator[None]:
    """Let `each` use `count` lanes of a CPU, each with as many threads as torch has here."""
    if count == 1 or _here.count > 1:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(count, "lane", torch.set_num_threads, (threads,)) as pool:
        _here.count, _here.pool = count, pool
        try:
            yield
        finally:
            _here.count = 1


def count() -> int:
    """How many pieces of work run side by side."""
    return _here.count


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map`, in order, with some `items` worked on at the same time.

    Items are taken here, one more than there are lanes ahead of the results. The first error is
    raised, and no further piece of work begun. What torch keeps for each thread, autocast and
    whether there are gradients, is in a lane as it is here.
    """
    if _here.count == 1:
        yield from map(work, items)
        return
    import torch

    gradients, dtype = torch.is_grad_enabled(), autocast_dtype(torch.zeros(1, 1))
    casts = dtype != torch.float32

    def run(item: Item) -> Result:
        with (
            torch.set_grad_enabled(gradients),
            torch.autocast("cpu", dtype if casts else None, casts, cache_enabled=False),
        ):
            return work(item)

    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(pending) > _here.count:
                yield pending.popleft().result()
            pending.append(_here.pool.submit(run, item))
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def autocast_dtype(matrix: torch.Tensor) -> torch.dtype:
    """The type in which products with `matrix` (N, K) are computed here, on its device."""
    product: torch.Tensor = matrix @ matrix.T
    return product.dtype
