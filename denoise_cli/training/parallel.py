"""One training on several processes, as ``torchrun`` starts them."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

from ..device import Device
from ..errors import DenoiseError


def rank() -> int:
    """The number of this process; 0 is the one that writes."""
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_device(name: str) -> str:
    """``auto`` or ``cuda`` -> the GPU of this process, when there are several processes."""
    if processes() > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return name


@contextmanager
def group(device: Device) -> Iterator[None]:
    """The processes connected, where there are several."""
    if processes() == 1:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if device.torch.type == "cuda" else "gloo"
    # What is imported later (by optimizers) takes the group as a default argument and keeps it
    # alive: destroying it would not end its threads, and one that lets go of a tensor while the
    # interpreter ends aborts the process (pytorch issue 190489).
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group(backend)
    try:
        yield
    finally:
        distributed.destroy_process_group()


class Gradients:
    """The gradients of a network, averaged over all processes after each backward.

    Not `DistributedDataParallel`: that averages in the midst of the backward, where a process
    that runs out of memory would leave the others waiting.

    Parameters
    ----------
    network : nn.Module
        Gets the parameters of the first process here; what it shares is in one buffer, so that
        averaging takes no memory that may be missing.
    """

    def __init__(self, network: nn.Module) -> None:
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        if processes() == 1:
            return
        with _together(), torch.no_grad():
            for parameter in self._parameters:
                distributed.broadcast(parameter, 0)
        sizes = [parameter.numel() for parameter in self._parameters]
        self._buffer = torch.empty(sum(sizes), device=self._parameters[0].device)
        self._parts = [
            part.view_as(parameter)
            for part, parameter in zip(self._buffer.split(sizes), self._parameters, strict=True)
        ]

    def average(self) -> None:
        """Give each parameter the mean of its gradients; all processes have to call this."""
        if processes() == 1:
            return
        pairs = list(zip(self._parameters, self._parts, strict=True))
        for parameter, part in pairs:
            if parameter.grad is None:
                part.zero_()
            else:
                part.copy_(parameter.grad)
        with _together():
            distributed.all_reduce(self._buffer)
        self._buffer.div_(processes())
        for parameter, part in pairs:
            if parameter.grad is None:
                parameter.grad = part
            else:
                parameter.grad.copy_(part)


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process; all have to ask."""
    if processes() == 1:
        return flag
    value = torch.tensor(float(flag))  # in main memory: no process waits for its device
    with _together():
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return bool(value)


@contextmanager
def _together() -> Iterator[None]:
    """Say in one line when the connection to another process is lost."""
    try:
        yield
    except RuntimeError:
        raise DenoiseError(
            f"process {rank()} of the training: another one has ended, whose message says why"
        ) from None


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a step in progress is finished first.

    A second Ctrl-C stops at once.
    """
    wanted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield wanted
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        wanted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
