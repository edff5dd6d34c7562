"""One training on several processes, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ..device import Device


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
    distributed.init_process_group("nccl" if device.torch.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


class Loss(nn.Module):
    """A recipe's loss as a module, so that `DistributedDataParallel` sees each step as one call."""

    def __init__(self, network: nn.Module, recipe: Any) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe

    def forward(self, noisy: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch."""
        loss: Tensor = self.recipe.loss(self.network, noisy, clean, generator)[0]
        return loss


def loss_module(network: nn.Module, recipe: Any) -> nn.Module:
    """`Loss`, with its gradients averaged over all processes where there are several."""
    loss = Loss(network, recipe)
    if processes() == 1:
        return loss
    return nn.parallel.DistributedDataParallel(loss)


def any_process(flag: bool, device: Device) -> bool:
    """Whether `flag` is set in any process; all have to ask."""
    if processes() == 1:
        return flag
    value = torch.tensor(float(flag), device=device.torch)
    distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return bool(value)


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
