"""Pictures as stored: samples, the letters of their axes, and the metadata to give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import UsageError

Array = npt.NDArray[Any]


class View(Protocol):
    """How stored samples that are no picture, such as the mosaic of a sensor, become one."""

    def forward(self, samples: Array) -> tuple[Array, str]:
        """Stored samples -> float samples and their axes, which are denoised in their place."""

    def inverse(self, samples: Array, denoised: Array) -> Array:
        """Denoised ones -> samples of the shape and dtype of the stored `samples`."""


@dataclass(frozen=True)
class Metadata:
    """What a picture file says besides its samples.

    Attributes
    ----------
    icc : bytes or None
        ICC profile, unchanged.
    exif : bytes or None
        EXIF as a TIFF structure, without the ``b"Exif\\0\\0"`` prefix of JPEG.
    orientation : int
        EXIF orientation 1..8. The samples are in stored order: it is not applied to them.
    format : str
        Name of the format the picture came from ("png", "jpeg", "tiff"), or "".
    view : View or None
        What is denoised instead of the samples themselves, and the way back.
    native : Mapping
        Private to the format module named by `format`, such as PNG chunks or TIFF tags; only
        the key "dpi" (horizontal and vertical pixels per inch) is read by other formats.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    orientation: int = 1
    format: str = ""
    view: View | None = None
    native: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Image:
    """A picture or a stack of pictures.

    Attributes
    ----------
    samples : numpy.ndarray
        Stored numbers, in stored order.
    axes : str
        One letter for each dimension, as in tifffile: Y and X; S color samples (1 gray, 2 gray
        and alpha, 3 RGB, 4 RGB and alpha); C independent channels; Z, T and others planes.
    metadata : Metadata
        What goes back into the written file.
    """

    samples: Array
    axes: str
    metadata: Metadata = field(default_factory=Metadata)


def default_axes(samples: Array) -> str:
    """Return the axes of an array that needs no explanation.

    Parameters
    ----------
    samples : numpy.ndarray
        (Y, X), or (Y, X, S) with 1 to 4 samples.

    Returns
    -------
    str
        "YX" or "YXS".

    Raises
    ------
    UsageError
        The meaning of the dimensions is not evident.
    """
    if samples.ndim == 2:
        return "YX"
    if samples.ndim == 3 and 1 <= samples.shape[-1] <= 4:
        return "YXS"
    raise UsageError(
        f"the axes of an array of shape {samples.shape} are not evident; "
        'say them, for instance axes="ZYX" or axes="TCYX"'
    )


def check_axes(samples: Array, axes: str) -> None:
    """Raise UsageError unless `axes` describes `samples`."""
    if len(axes) != samples.ndim:
        raise UsageError(
            f"axes {axes!r} name {len(axes)} dimensions, the array of shape {samples.shape} "
            f"has {samples.ndim}; give one letter for each"
        )
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise UsageError(f"axes {axes!r} must hold Y and X once; say for instance 'ZYX'")
    if axes.count("S") > 1 or ("S" in axes and not 1 <= samples.shape[axes.index("S")] <= 4):
        raise UsageError(
            f"axes {axes!r} of shape {samples.shape}: S holds 1 (gray) to 4 (RGB and alpha) "
            "samples; use C for independent channels"
        )
    if samples.size == 0:
        raise UsageError(f"the array of shape {samples.shape} is empty; give a picture")


def to_planes(samples: Array, axes: str) -> tuple[Array, Callable[[Array], Array]]:
    """Bring a picture of any axes into planes, and say how to get back.

    Parameters
    ----------
    samples : numpy.ndarray
        Stored numbers, any dtype.
    axes : str
        One letter for each dimension; see `Image`.

    Returns
    -------
    planes : numpy.ndarray
        (N, C, Y, X) of the dtype of `samples`; C is 3 for RGB and 1 otherwise. Alpha is left
        out; channels (C), slices (Z), times (T) and any other axes are planes of their own.
    from_planes : Callable
        Inverse: takes planes of the same shape and any dtype, returns an array of that dtype
        and of the shape of `samples`, with the alpha of `samples` unchanged.

    Raises
    ------
    UsageError
        `axes` do not fit `samples`.
    """
    check_axes(samples, axes)
    # Order of dimensions: everything else, then samples, then Y and X.
    order = [i for i, letter in enumerate(axes) if letter not in "SYX"]
    order += [axes.index(letter) for letter in "SYX" if letter in axes]
    stacked = samples.transpose(order)
    height, width = stacked.shape[-2:]
    count = stacked.shape[-3] if "S" in axes else 1
    flat = stacked.reshape(-1, count, height, width)
    colors = 3 if count >= 3 else 1

    def from_planes(planes: Array) -> Array:
        if planes.shape != (flat.shape[0], colors, height, width):
            raise ValueError(f"planes of shape {planes.shape} do not fit {samples.shape}")
        if count > colors:
            planes = np.concatenate([planes, flat[:, colors:].astype(planes.dtype)], axis=1)
        return np.ascontiguousarray(planes.reshape(stacked.shape).transpose(np.argsort(order)))

    return flat[:, :colors], from_planes


def upright(samples: Array, orientation: int) -> Array:
    """Turn a picture the way a viewer shows it, by its EXIF orientation.

    Parameters
    ----------
    samples : numpy.ndarray
        (Y, X) or (Y, X, S), in stored order.
    orientation : int
        1..8, as in EXIF 2.32, tag 274.

    Returns
    -------
    numpy.ndarray
        A view; for 5 to 8 height and width are exchanged. Only for showing, never for storing.
    """
    if orientation not in range(1, 9):
        raise UsageError(f"orientation {orientation} is not in 1..8; use 1 for none")
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
