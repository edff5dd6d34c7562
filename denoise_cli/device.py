"""Where and how precisely a network runs: decided in this one place."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import lanes
from .errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Device:
    """A torch device and the precision of the network's arithmetic there."""

    name: str
    precision: str

    @property
    def torch(self) -> torch.device:
        """The device as torch knows it."""
        import torch

        return torch.device(self.name)

    @contextmanager
    def threads(self, *, side_by_side: bool = False) -> Iterator[None]:
        """The context in which a CPU computes with one thread fewer than it has cores.

        Where another program keeps one core busy, as many threads as cores wait for each other
        at every step: on a machine of two, ten times as long. By a rule, not by the load, since
        another number of threads rounds differently. ``OMP_NUM_THREADS`` overrules it.

        Of two cores, what may be done `side_by_side` uses both, and takes the memory of two: see
        `denoise_cli.lanes`, which round as one thread does.
        """
        import torch

        before = torch.get_num_threads()
        lanes_open = 1
        if self.torch.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            allowed = min(before, _cores())
            threads = max(1, allowed - 1)
            torch.set_num_threads(threads)
            lanes_open = allowed // threads if side_by_side else 1
        try:
            with lanes.opened(lanes_open):
                yield
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """The context in which a GPU rounds alike each time: same seed, same bytes.

        Convolutions and sums whose order is left to the hardware are replaced by others, where
        there are such. A CPU needs none of this.
        """
        import torch

        if self.torch.type != "cuda":
            yield
            return
        # Without this cuBLAS may choose anew, and torch warns of it; read when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        before = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*determinis.*", category=UserWarning)
                yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)

    def release(self) -> None:
        """Give freed memory of an accelerator back: in pieces it serves nothing large."""
        import torch

        if self.torch.type == "cuda":
            torch.cuda.empty_cache()

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the network runs; weights stay in fp32."""
        import torch

        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        kind = self.torch.type
        # The cache of cast weights lives as long as the context: weights that an adaptation
        # changes inside it would go on being used as they were.
        return torch.autocast(
            kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False
        )


def resolve(device: str = "auto", precision: str = "auto") -> Device:
    """The device called `device` (auto, cpu, cuda, cuda:N, mps) at `precision`.

    Raises
    ------
    DeviceError
        If the device is asked for and absent: there is no silent fall-back.
    UsageError
        If the name of the device or the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}")
    name = _available() if device == "auto" else _checked(device)
    return Device(name, _best_precision(name) if precision == "auto" else precision)


def _cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _available() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _checked(device: str) -> str:
    import torch

    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not index.isdigit()):
        raise UsageError(f"unknown device {device!r}; known are auto, cpu, cuda, cuda:N, mps")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise DeviceError(
                f"device {device!r} was asked for but torch sees {count} CUDA devices here; "
                "use --device cpu or install a CUDA build of torch"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' was asked for but is absent here; use --device cpu")
    return "cpu" if kind == "cpu" else device


def _best_precision(name: str) -> str:
    import torch

    if name.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if name == "cpu":
        # Without hardware for it, bf16 on a CPU is emulated and slower than fp32.
        capable = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        if any(getattr(torch.cpu, probe, lambda: False)() for probe in capable):
            return "bf16"
    return "fp32"
