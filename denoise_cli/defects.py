"""Defects of pictures beside their noise: impulses, the grid of a JPEG, clipping."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CLIPPED = 1e-4  # share of samples at an extreme value that counts as a pile
# A JPEG grid shows by its blockiness alone, or by a lesser one that is clear of other phases.
STRONG_GRID, WEAK_GRID, CLEAR = 1.12, 1.03, 6.0
LEAST_SIDE = 64  # pixels to look for a grid in


def pile(picture: Array, value: float) -> float:
    """The share of samples that are exactly `value`, 0 if they are too few to mean clipping."""
    share = float(np.mean(picture == value))
    return share if share > CLIPPED else 0.0


def impulses(picture: Array) -> tuple[float, Array]:
    """The share of samples that are impulses (salt and pepper, hot pixels), and where they are.

    An impulse stands out of its eight neighbors. Its share is counted where the neighbors are quiet
    and leave room for it below white or above black; whether a place counts is decided without the
    sample in its middle, so that the share there is that of the whole picture, up to a fifth or so
    of all samples. Noise of few photons has spikes that count as impulses, too.

    Parameters
    ----------
    picture : ndarray
        (C, Y, X) on about 0..1.

    Returns
    -------
    share : float
        0..1.
    places : ndarray of bool
        (C, Y, X); those found, also where the neighbors are not quiet.
    """
    found = np.zeros(picture.shape, bool)
    if min(picture.shape[1:]) < 8:
        return 0.0, found
    inside = picture[:, 1:-1, 1:-1]
    greatest, least = np.full_like(inside, -np.inf), np.full_like(inside, np.inf)
    rows, columns = picture.shape[1:]
    for y in range(3):
        for x in range(3):
            if (y, x) != (1, 1):
                neighbor = picture[:, y : rows - 2 + y, x : columns - 2 + x]
                np.maximum(greatest, neighbor, out=greatest)
                np.minimum(least, neighbor, out=least)
    spread = greatest - least
    # Half of the neighborhoods without a sample at the ends of the range are quieter than this.
    low, high = max(float(picture.min()), 0.0), min(float(picture.max()), 1.0)
    extreme = float(np.mean((picture <= low) | (picture >= high)))
    typical = float(np.quantile(spread, 0.5 * (1 - min(extreme, 0.4)) ** 8))
    # Eight samples of normal noise spread over 2.8 deviations; a ninth that lies beyond them by
    # another 4 is no noise.
    margin = np.maximum(2 * spread, max(1.5 * typical, 0.06))
    quiet = spread <= typical
    share = 0.0
    for stands_out, has_room in (
        (inside > greatest + margin, greatest + margin < high - 1e-6),
        (inside < least - margin, least - margin > low + 1e-6),
    ):
        found[:, 1:-1, 1:-1] |= stands_out
        places = quiet & has_room
        if places.sum() >= 100:
            share += float(stands_out[places].mean())
    return (share if share > 1e-5 else 0.0), found


def jpeg_grid(picture: Array) -> tuple[float, tuple[int, int] | None]:
    """How strong the grid of a JPEG is, and where its blocks begin.

    Source: Wang, Sheikh, Bovik, "No-reference perceptual quality assessment of JPEG compressed
    images", ICIP 2002, eq. 1: the mean difference across block boundaries. Here for each of the
    eight phases, so that a cropped JPEG is found, too, and less the differences beside it.

    Parameters
    ----------
    picture : ndarray
        (C, Y, X) on about 0..1.

    Returns
    -------
    blockiness : float
        How many times more samples differ across the boundaries; of the weaker direction.
    origin : (column, row) or None
        Of the first block that begins in the picture; None if no grid shows.
    """
    luma = picture.mean(axis=0)
    if min(luma.shape) < LEAST_SIDE:
        return 1.0, None
    strength, clear, phases = [], [], []
    for plane in (luma, luma.T):
        step = np.abs(np.diff(plane, axis=1))
        # Against the boundaries beside it: a busy picture differs everywhere.
        excess = step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2
        mean = np.array([np.mean(excess[:, phase::8]) for phase in range(8)])
        phase = int(mean.argmax())
        others = np.delete(mean, [phase, (phase + 1) % 8, phase - 1])  # its neighbors, by `excess`
        clear.append(float((mean[phase] - others.mean()) / (others.std() + 1e-9)))
        strength.append(1 + float(mean[phase] - np.median(others)) / (float(step.mean()) + 1e-6))
        phases.append((phase + 2) % 8)
    weaker = min(strength)
    shows = weaker > STRONG_GRID or (weaker > WEAK_GRID and min(clear) > CLEAR)
    return weaker, ((phases[0], phases[1]) if shows else None)
