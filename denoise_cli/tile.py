"""Overlapping tiles with blending, and padding to what a network needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import lanes

Predict = Callable[[np.ndarray], np.ndarray]


def spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Start and stop of the tiles that cover `length`, each `tile` long where that fits.

    Neighbors share at least `overlap`; the last tile is shifted back so that it ends at `length`.
    """
    if tile <= 0 or length <= tile:
        return [(0, length)]
    stride = max(tile - overlap, 1)
    count = -(-(length - tile) // stride) + 1
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(start, start + tile) for start in starts]


def windows(length: int, parts: list[tuple[int, int]]) -> list[np.ndarray]:
    """Blending weights (float32) along one axis for `parts`; at every position they sum to 1.

    The weights fall linearly towards a tile's inner edges and are 0 on the outermost quarter of an
    overlap, where a prediction suffers from the missing surroundings.
    """
    ramps = []
    for i, (start, stop) in enumerate(parts):
        weight = np.ones(stop - start)
        if i > 0:
            shared = parts[i - 1][1] - start
            weight[:shared] = np.minimum(weight[:shared], _ramp(shared))
        if i + 1 < len(parts):
            shared = stop - parts[i + 1][0]
            inner = len(weight) - shared
            weight[inner:] = np.minimum(weight[inner:], _ramp(shared)[::-1])
        ramps.append(weight)
    total = np.zeros(length)
    for (start, stop), weight in zip(parts, ramps, strict=True):
        total[start:stop] += weight
    return [
        (weight / total[start:stop]).astype(np.float32)
        for (start, stop), weight in zip(parts, ramps, strict=True)
    ]


def _ramp(length: int) -> np.ndarray:
    position = (np.arange(length) + 0.5) / length
    return np.clip((position - 0.25) * 2, 1e-6, 1)


def tiled(
    predict: Predict,
    plane: np.ndarray,
    *,
    tile: int,
    overlap: int,
    out: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """`predict` over overlapping tiles of `plane` (C, Y, X), blended into `out` (float32, same).

    `tile` 0 means the whole plane at once.
    """
    rows = spans(plane.shape[1], tile, overlap)
    columns = spans(plane.shape[2], tile, overlap)
    if len(rows) * len(columns) == 1:
        out[:] = predict(plane)
        if progress:
            progress(1, 1)
        return
    out[:] = 0
    row_weights = windows(plane.shape[1], rows)
    column_weights = windows(plane.shape[2], columns)
    places = [(slice(*row), slice(*column)) for row in rows for column in columns]
    weights = (down[:, None] * across for down in row_weights for across in column_weights)
    parts = lanes.each(predict, (plane[:, down, across] for down, across in places))
    together = zip(places, weights, parts, strict=True)
    for done, ((down, across), weight, part) in enumerate(together, 1):
        out[:, down, across] += part * weight
        if progress:
            progress(done, len(places))


def padded(predict: Predict, plane: np.ndarray, *, multiple_of: int, minimum: int) -> np.ndarray:
    """`predict` on `plane` (C, Y, X) mirrored to sides it can take, cropped back."""
    rows, columns = plane.shape[1:]

    def target(length: int) -> int:
        return -(-max(length, minimum) // multiple_of) * multiple_of

    extra = ((0, 0), (0, target(rows) - rows), (0, target(columns) - columns))
    if not (extra[1][1] or extra[2][1]):
        return predict(plane)
    return predict(np.pad(plane, extra, mode="symmetric"))[:, :rows, :columns]
