"""Was what a denoiser took away noise? A look at the residual, without a clean picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from .defects import jpeg_grid

Array = npt.NDArray[Any]

LARGEST = 1536  # side of the part in the middle that is looked at
SMALLEST = 96  # of a picture about which anything can be said
WINDOW = 8
BRIGHTNESSES = 6
# Chosen on held-out training photos under twelve kinds of noise: where noise was taken away, edges
# lost 0.4 to 1.2 times the energy of flat places and brightness moved by up to 1.2 of 255.
DETAIL = 1.35
SHIFT = 2.5 / 255
UNCHANGED = 0.2 / 255
UNUSUAL, SPECK = 6.0, 0.12  # of what was removed of a sample: times the median, and on 0..1
# Of `regularity`: what was removed from held-out training photos under fourteen kinds of noise has
# 10 at most, from cameras' pictures without a mesh 3; a mesh that was removed has hundreds.
REGULAR = 12.0
PERIODS = 32  # side of the windows whose spectrum is looked at
# In a window, in both directions: neither banding nor noise of a Bayer mosaic is such a pattern.
LEAST_CYCLES, MOST_CYCLES = 3, 13
NEIGHBORHOOD = 9  # of a frequency, over which its energy is compared


def complaint(noisy: Array, denoised: Array) -> str | None:
    """What is wrong with a denoised picture, in one line; None if nothing is.

    Noise has a mean of zero, no pattern, and does not know where edges are: what was taken away
    must not shift the brightness, must not come again regularly, and must not be stronger at edges
    than at flat places of the same brightness. A JPEG's artifacts are at edges, so of a picture
    with the grid of one the latter is not asked. Of a blank one, as an empty frame, nothing is.

    Parameters
    ----------
    noisy, denoised : ndarray
        (C, Y, X) on about 0..1.
    """
    if min(noisy.shape[-2:]) < SMALLEST:
        return None
    noisy, denoised = _middle(noisy), _middle(denoised)
    if bool((noisy == noisy[:, :1, :1]).all()):
        return None
    removed = noisy - denoised
    # What diverged has squares that single precision does not hold.
    if float(np.sqrt(np.square(removed, dtype=np.float64).mean())) < UNCHANGED:
        return "next to nothing was changed: there is no noise, or none that the network knows"
    shift = _shift(removed)
    if abs(shift) > SHIFT:
        how = "brighter" if shift > 0 else "darker"
        return f"the picture became {how}, by {abs(shift):.1%} of the range; look at it"
    if regularity(removed) > REGULAR:
        return (
            "a regular pattern was taken away, such as that of a mesh, a fabric or a print; "
            "a lower --strength keeps more of it"
        )
    ratio = edge_ratio(removed, denoised)
    if ratio > DETAIL and jpeg_grid(noisy)[1] is None:
        return (
            f"{ratio:.1f} times as much was taken away at edges as at flat places: "
            "detail may have gone with the noise; a lower --strength keeps more of it"
        )
    return None


def _shift(removed: Array) -> float:
    """How much brighter the channel became that changed most; specks that are gone do not count."""
    shifts = []
    for channel in removed:
        size = np.abs(channel)
        usual = size <= max(UNUSUAL * float(np.median(size)), SPECK)
        shifts.append(min(-channel.mean(), -channel[usual].mean(), key=abs))
    return float(max(shifts, key=abs))


def edge_ratio(removed: Array, denoised: Array) -> float:
    """The energy of `removed` (C, Y, X) at the edges of `denoised` over that at flat places.

    Edges are the eighth of the windows with the greatest differences of neighbors, flat places the
    half with the least, among windows of one brightness; the result is a median over brightness.
    """
    pictures = _windows(denoised)
    energy = np.square(_windows(removed)).mean(axis=(1, 2, 3))
    roughness = sum(np.square(np.diff(pictures, axis=axis)).mean(axis=(1, 2, 3)) for axis in (2, 3))
    brightness = pictures.mean(axis=(1, 2, 3))
    ratios = []
    for group in np.array_split(brightness.argsort(kind="stable"), BRIGHTNESSES):
        order = group[roughness[group].argsort(kind="stable")]
        edges, flat = order[-(-len(order) * 7 // 8) :], order[: len(order) // 2]
        if len(edges) and len(flat):
            ratios.append(np.median(energy[edges]) / max(float(np.median(energy[flat])), 1e-12))
    return float(np.median(ratios)) if ratios else 1.0


def regularity(removed: Array) -> float:
    """The greatest energy of a frequency in `removed` (C, Y, X) over that of those around it.

    Of the mean of the channels, in windows. Noise has a smooth spectrum, colored or not; what comes
    again every few pixels has a peak.
    """
    gray = removed.mean(axis=0)
    taper = np.hanning(PERIODS + 1)[:PERIODS]
    windows = _windows(gray[None], PERIODS)[:, 0]
    windows = windows - windows.mean(axis=(1, 2), keepdims=True)
    energy = np.square(np.abs(np.fft.fft2(windows * np.outer(taper, taper)))).mean(axis=0)
    around = median_filter(energy, NEIGHBORHOOD, mode="wrap")
    cycles = PERIODS * np.abs(np.fft.fftfreq(PERIODS))
    looked_at = (cycles >= LEAST_CYCLES) & (cycles <= MOST_CYCLES)
    return float((energy / np.maximum(around, 1e-12))[np.ix_(looked_at, looked_at)].max())


def _middle(picture: Array) -> Array:
    top, left = (max(0, n - LARGEST) // 2 for n in picture.shape[-2:])
    return picture[:, top : top + LARGEST, left : left + LARGEST]


def _windows(picture: Array, side: int = WINDOW) -> Array:
    """Windows (K, C, side, side) side by side."""
    channels, rows, columns = picture.shape
    rows, columns = rows // side, columns // side
    whole = picture[:, : rows * side, : columns * side]
    parts = whole.reshape(channels, rows, side, columns, side).transpose(1, 3, 0, 2, 4)
    return parts.reshape(-1, channels, side, side)
