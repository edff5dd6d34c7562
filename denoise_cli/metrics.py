"""How close a picture is to a clean one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import UsageError

Array = npt.NDArray[Any]

SSIM_WINDOW = 7  # default of skimage.metrics.structural_similarity


def psnr(clean: Array, image: Array) -> float:
    """Peak signal-to-noise ratio in dB, for a peak of 1 and without cropping the border.

    Parameters
    ----------
    clean, image : numpy.ndarray
        Pictures of equal shape on 0..1; both are clipped to that range.

    Returns
    -------
    float
        Infinity if they are equal.

    Raises
    ------
    UsageError
        The shapes differ.
    """
    clean, image = _unit_pair(clean, image)
    error = float(np.mean(np.square(clean - image)))
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(clean: Array, image: Array) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004) with the defaults of scikit-image.

    Parameters
    ----------
    clean, image : numpy.ndarray
        (Y, X) or (Y, X, C) on 0..1, of equal shape, at least 7 x 7; clipped to that range.

    Returns
    -------
    float
        At most 1; the mean over a uniform 7 x 7 window and over the channels.

    Raises
    ------
    UsageError
        The shapes differ, or the picture is smaller than the window.
    """
    from skimage.metrics import structural_similarity

    clean, image = _unit_pair(clean, image)
    if min(clean.shape[:2]) < SSIM_WINDOW:
        raise UsageError(
            f"SSIM needs pictures of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, "
            f"not {clean.shape[1]} x {clean.shape[0]}; use PSNR"
        )
    channel_axis = -1 if clean.ndim == 3 else None
    return float(structural_similarity(clean, image, channel_axis=channel_axis, data_range=1.0))


def unit(samples: Array) -> Array:
    """Bring stored numbers to 0..1: integers by the maximum of their dtype, floats unchanged."""
    if samples.dtype.kind in "iu":
        return samples.astype(np.float64) / np.iinfo(samples.dtype).max
    if samples.dtype.kind == "b":
        return samples.astype(np.float64)
    return samples


def _unit_pair(clean: Array, image: Array) -> tuple[Array, Array]:
    if clean.shape != image.shape:
        raise UsageError(
            f"pictures of shapes {clean.shape} and {image.shape} cannot be compared; "
            "give a reference of the same size"
        )
    return (
        np.clip(clean.astype(np.float64), 0, 1),
        np.clip(image.astype(np.float64), 0, 1),
    )
