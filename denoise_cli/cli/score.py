"""PSNR and SSIM of images as files hold them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import UnreadableImage
from ..image import Image, Stack, View, to_planes
from ..io import read
from ..metrics import SSIM_WINDOW, psnr, ssim, unit
from ..streaming import channels, scales as scales_of


def pictures(samples: np.ndarray, axes: str, view: View | None = None) -> np.ndarray:
    """Planes as float32 pictures (N, Y, X, C), C 1 or 3, without alpha; integers on 0..1.

    With the `view` of a camera raw file the mosaic, from its black to its white level.
    """
    if view is not None:
        samples, axes = view.linear(samples)
    planes, _ = to_planes(unit(samples), axes)
    return np.moveaxis(planes, 1, -1).astype(np.float32)


def read_reference(path: Path, like: Image) -> np.ndarray:
    """The clean pictures at `path`, which must match those of `like`.

    For a camera raw file they are another one, or a picture of all samples of its sensor.

    Raises
    ------
    UnreadableImage
        If it cannot be read or has another size.
    """
    image = read(path)
    view = image.metadata.view
    if view is None and like.metadata.view is not None:
        view = like.metadata.view
        found = (image.samples.shape, image.samples.dtype)
        if found != (like.samples.shape, like.samples.dtype):
            rows, columns = like.samples.shape
            raise UnreadableImage(
                f"{path}: is no clean mosaic of this camera raw file; it is gray, {columns}x{rows} "
                "and of 16 bits, on the scale of its samples"
            )
    elif view is not None and like.metadata.view is None:
        raise UnreadableImage(f"{path}: is a camera raw file, the noisy image is none")
    clean = pictures(image.samples, image.axes, view)
    wanted = pictures(like.samples, like.axes, like.metadata.view).shape
    if clean.shape != wanted:
        raise UnreadableImage(
            f"{path}: is {_size(clean.shape)}, the noisy image {_size(wanted)}; "
            "a clean image must have the same size and colors"
        )
    return clean


def scores(clean: np.ndarray, image: Image) -> tuple[float, float]:
    """(PSNR, SSIM) of `image` against the pictures `clean`, each the mean over the planes.

    SSIM is NaN for pictures smaller than its window.
    """
    fits = min(clean.shape[1:3]) >= SSIM_WINDOW
    pairs = zip(clean, _pictures(image), strict=True)
    return (
        mean_psnr(clean, image),
        float(np.mean([ssim(a, b) for a, b in pairs])) if fits else math.nan,
    )


def mean_psnr(clean: np.ndarray, image: Image) -> float:
    """The PSNR alone: SSIM takes about as long as denoising a picture."""
    pairs = zip(clean, _pictures(image), strict=True)
    return float(np.mean([psnr(a, b) for a, b in pairs]))


def _pictures(image: Image) -> np.ndarray:
    return pictures(image.samples, image.axes, image.metadata.view)


def network_scale(stack: Stack) -> Callable[[np.ndarray], np.ndarray]:
    """The map from `pictures` of the first plane to the 0..1 on which its network sees it.

    They differ for files that use few bits of their type, such as 12 bits in 16.
    """
    scale = scales_of(stack)[channels(stack, 0)[0]]
    kind = stack.dtype
    peak = np.iinfo(kind).max if kind.kind in "iu" else 1
    return lambda picture: scale.forward(picture * np.float64(peak))


def _size(shape: tuple[int, ...]) -> str:
    planes, rows, columns, channels = shape
    colors = "gray" if channels == 1 else "color"
    return f"{columns}x{rows} {colors}" + (f" in {planes} planes" if planes > 1 else "")
