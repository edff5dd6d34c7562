"""Main memory: what the process holds, and the tiles that fit into the rest.

The model is one product: predicting a tile of S x S pixels takes ``S * S * bytes_per_pixel`` beyond
what the process holds before. `bytes_per_pixel` was measured as the growth of the peak resident
size from a first small prediction to one of 512 x 512 pixels, in fp32 on a CPU: 968 for
mim-resunet, 937 for mim-unet, 885 for dilated-unet, 770 for dncnn, 7152 for masked-swin, 7324
for blind-spot (256 x 256). In bf16 it is 390 to 650 for the first four; the same figure is used
for both, so that a budget holds for either.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys

from .errors import NotEnoughMemory

TILE_BYTES = 1000  # a pixel, for networks that say nothing else in their attribute `tile_bytes`
SMALLEST_TILE = (
    128  # smaller tiles see too little around them, and cost more overlap than they save
)
STEP = 32
# What stays of an adaptation beside its picture: after `trim` 96 to 119 MB, whatever the method.
# At its peak it takes 230 to 340 MB, mpi 1.2 GB.
ADAPTED_BYTES = 100_000_000


def resident() -> int:
    """Bytes of main memory that this process holds; the most it ever held where none can tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return _peak()


def _peak() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trim() -> None:
    """Give freed memory back to the system, so that `resident` tells what is in use."""
    if sys.platform == "linux":
        # glibc keeps what an adaptation freed; other C libraries have no such function.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)(0)


def tile_within(limit: int, held: int, bytes_per_pixel: int) -> int:
    """The side of the largest tile that `limit` bytes allow beside those `held`.

    Raises
    ------
    NotEnoughMemory
        Not even the smallest tile fits.
    """
    side = largest_tile(limit - held, bytes_per_pixel)
    if not side:
        least = held + SMALLEST_TILE**2 * bytes_per_pixel
        raise NotEnoughMemory(
            f"needs about {least / 1e9:.2f} GB with the smallest tiles, more than the "
            f"{limit / 1e9:.2f} GB allowed; give a larger --max-memory"
        )
    return side


def largest_tile(free: int, bytes_per_pixel: int) -> int:
    """The side of the largest tile that `free` bytes are enough for; 0 if none is worthwhile."""
    side = math.isqrt(max(free, 0) // bytes_per_pixel) // STEP * STEP
    return side if side >= SMALLEST_TILE else 0


def smaller_tile(side: int) -> int:
    """The next side to try when `side` took too much; 0 if there is none."""
    half = side // 2 // STEP * STEP
    return half if half >= SMALLEST_TILE else 0


# What a RuntimeError says then: torch, oneDNN (whose compiler gets no memory for the code of a
# convolution; it gives no reason), and Python (no stack for a thread).
_EXHAUSTED = (
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "could not create a primitive",
    "can't start new thread",
)


def is_exhausted(error: Exception) -> bool:
    """Whether an error says that memory ran out, of the machine or of its accelerator."""
    if isinstance(error, MemoryError):
        return True
    # torch.OutOfMemoryError is a RuntimeError, of newer versions
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _EXHAUSTED)
