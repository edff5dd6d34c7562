"""Smaller copies of pictures, as pyramids hold them."""

from __future__ import annotations

import numpy as np

from ..image import Array


def reduced(samples: Array, size: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Shrink `axes` of `samples` to `size`: every sample the mean of those that it stands for."""
    mean = samples.astype(np.float64)
    for axis, length in zip(axes, size, strict=True):
        edges = bounds(samples.shape[axis], length)
        shape = [-1 if i == axis else 1 for i in range(mean.ndim)]
        mean = np.add.reduceat(mean, edges[:-1], axis) / np.diff(edges).reshape(shape)
    return (np.rint(mean) if samples.dtype.kind in "iu" else mean).astype(samples.dtype)


def bounds(large: int, small: int) -> Array:
    """Where each of `small` parts of an axis of `large` begins, and the end.

    Parts are of equal length, but for the last, where a whole factor comes close (2 for 45 to 23
    or to 22), as programs that make pyramids have it; else they differ by one at most.
    """
    factor = max(round(large / small), 1)
    starts = np.arange(small) * factor
    if not 0 < large - starts[-1] <= 2 * factor:
        starts = np.arange(small) * large // small
    return np.append(starts, large)
