"""Predicting planes in tiles: of the side asked for, or of one that is fast, within memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from . import memory
from .errors import NotEnoughMemory, UsageError
from .tile import Predict, tiled

if TYPE_CHECKING:
    from .device import Device
    from .image import Stack

# Whole pictures up to this side are predicted at once, larger ones in tiles of TILE.
WHOLE_SIDE = 1024
TILE = 768
LEAST_SIDE = 64


class Tiling:
    """How planes are taken apart into tiles, and put together.

    Parameters
    ----------
    side : int or None
        Of a tile, as `checked` gives it: 0 for the whole plane at once, None for what is fast.
    overlap : int
        What neighboring tiles share at least, in pixels.
    max_memory : int or None
        Bytes of main memory to stay below; of no effect on an accelerator.
    bytes_per_pixel : int
        What the network takes; see `denoise_cli.memory`.
    device : Device
        Where the network runs.
    """

    def __init__(
        self,
        side: int | None,
        overlap: int,
        *,
        max_memory: int | None,
        bytes_per_pixel: int,
        device: Device,
    ) -> None:
        self._asked, self.overlap = side, overlap
        self._max_memory = max_memory if device.torch.type == "cpu" else None
        self._bytes_per_pixel, self._device = bytes_per_pixel, device

    def side(self, planes: np.ndarray) -> int:
        """The side of the tiles of `planes` (N, C, Y, X); 0 for each at once.

        Raises
        ------
        NotEnoughMemory
            Not even the smallest tile fits into the memory allowed.
        """
        side = self._asked
        longest = max(planes.shape[-2:])
        if side is None:
            side = TILE if longest > WHOLE_SIDE else 0
        if self._max_memory is None:
            return side
        memory.trim()
        held = memory.resident() + planes.nbytes  # the result is as large as the input
        largest = memory.tile_within(self._max_memory, held, self._bytes_per_pixel)
        return min(side or longest, largest) if largest < longest else side

    def check(self, stack: Stack, *, adapts: bool) -> None:
        """Refuse too little memory for the prediction of `stack` before there is an adaptation.

        Raises
        ------
        NotEnoughMemory
            Not even the smallest tile would fit into the memory allowed.
        """
        if self._max_memory is None:
            return
        frame = stack.frame(0)  # counts as held while it is here
        pixels = math.prod(stack.shape[stack.axes.index(letter)] for letter in "YX")
        colors = 3 if "S" in stack.axes and stack.shape[stack.axes.index("S")] >= 3 else 1
        # What comes out of it, and a plane in float32 before and after.
        held = memory.resident() + frame.nbytes + 2 * 4 * colors * pixels
        if adapts:
            held += memory.ADAPTED_BYTES
        memory.tile_within(self._max_memory, held, self._bytes_per_pixel)

    def predict(
        self, predict: Predict, planes: np.ndarray, progress: Callable[[int, int], None]
    ) -> np.ndarray:
        """`predict` on all `planes` (N, C, Y, X), tile by tile; `progress` takes done and total.

        Raises
        ------
        NotEnoughMemory
            Memory runs out even with the smallest tiles.
        """
        side = self.side(planes)
        result = np.empty_like(planes)
        for index, plane in enumerate(planes):

            def report(done: int, total: int, before: int = index) -> None:
                progress(before * total + done, len(planes) * total)

            side = self._plane(predict, plane, result[index], side, report)
        return result

    def _plane(
        self,
        predict: Predict,
        plane: np.ndarray,
        out: np.ndarray,
        side: int,
        report: Callable[[int, int], None],
    ) -> int:
        """Predict `plane` into `out` in tiles, in smaller ones if memory runs out; their side."""
        while True:
            overlap = self.overlap if self.overlap < side else side // 2
            try:
                tiled(predict, plane, tile=side, overlap=overlap, out=out, progress=report)
                return side
            except (MemoryError, RuntimeError) as error:
                if not memory.is_exhausted(error):
                    raise
                side = memory.smaller_tile(side or max(plane.shape[-2:]))
                if not side:
                    raise NotEnoughMemory(
                        "memory runs out even with the smallest tiles; close other programs, "
                        "give fewer --jobs or a smaller picture"
                    ) from error
            self._device.release()


def checked(side: int | str, overlap: int) -> int | None:
    """The side of tiles that was asked for, None for "auto"; known before there is a network.

    Raises
    ------
    UsageError
        If the side or the overlap makes no sense.
    """
    asked = None
    if side != "auto":
        if not str(side).isdigit() or 0 < int(side) < LEAST_SIDE:
            raise UsageError(
                f"tile must be auto, 0 (no tiles) or {LEAST_SIDE} and more, not {side!r}"
            )
        asked = int(side)
    if overlap < 0:
        raise UsageError(f"overlap must be 0 or more, not {overlap}")
    if asked and overlap >= asked:
        raise UsageError(f"overlap {overlap} must be smaller than tile {side}")
    return asked
