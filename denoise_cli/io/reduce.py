"""Smaller copies of pictures, as pyramids hold them."""

from __future__ import annotations

import numpy as np

from ..image import Array


def reduced(samples: Array, size: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Shrink `axes` of `samples` to `size`: every sample the mean of those that it stands for."""
    mean = samples.astype(np.float64)
    for axis, length in zip(axes, size, strict=True):
        starts = np.arange(length) * samples.shape[axis] // length
        counts = np.diff(np.append(starts, samples.shape[axis]))
        shape = [-1 if i == axis else 1 for i in range(mean.ndim)]
        mean = np.add.reduceat(mean, starts, axis) / counts.reshape(shape)
    return (np.rint(mean) if samples.dtype.kind in "iu" else mean).astype(samples.dtype)
