"""Pictures as stored: samples, the letters of their axes, and the metadata to give back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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

    def linear(self, samples: Array) -> tuple[Array, str]:
        """Stored samples -> what they measure, on 0..1, and its axes: to compare them."""

    def even(self, samples: Array) -> Array:
        """Stored samples -> a picture (Y, X) of some, on 0..1, that shows the noise of each."""


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
    note : str
        What reading changed of it, in one line for people; "" if nothing.
    native : Mapping
        Private to the format module named by `format`, such as PNG chunks or TIFF tags; other
        formats read only the keys "dpi" (horizontal and vertical pixels per inch) and
        "pixel_size" (axis letter to length and unit).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    orientation: int = 1
    format: str = ""
    view: View | None = None
    note: str = ""
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


@dataclass(frozen=True)
class Stack:
    """A picture or a stack of pictures of which one frame at a time is in memory.

    A frame is what the axes from the first of S, Y and X onward span: one picture, of one sample
    or of several. The axes in front of them are counted in C order; a picture has one frame.

    Attributes
    ----------
    shape, axes, metadata
        As of an `Image`.
    dtype : numpy.dtype
        Of the samples.
    frame : Callable
        Reads the frame of an index. Those who go through all do so in order.
    """

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    frame: Callable[[int], Array]
    metadata: Metadata = field(default_factory=Metadata)

    @classmethod
    def of(cls, image: Image) -> Stack:
        """An image in memory, seen as a stack."""
        samples = image.samples
        check_axes(samples, image.axes)
        leading = samples.shape[: _leading(image.axes)]

        def frame(index: int) -> Array:
            return samples[np.unravel_index(index, leading)] if leading else samples

        return cls(samples.shape, image.axes, samples.dtype, frame, image.metadata)

    @property
    def leading(self) -> int:
        """Number of axes in front of a frame."""
        return _leading(self.axes)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return self.shape[self.leading :]

    @property
    def frame_axes(self) -> str:
        """Axes of a frame."""
        return self.axes[self.leading :]

    @property
    def count(self) -> int:
        """Number of frames."""
        return math.prod(self.shape[: self.leading])

    @property
    def nbytes(self) -> int:
        """Bytes of all samples."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __iter__(self) -> Iterator[Array]:
        return (self.frame(index) for index in range(self.count))

    def read(self) -> Image:
        """All frames in memory."""
        if not self.leading:
            return Image(self.frame(0), self.axes, self.metadata)
        samples = np.empty(self.shape, self.dtype)
        for index, frame in enumerate(self):
            samples[np.unravel_index(index, self.shape[: self.leading])] = frame
        return Image(samples, self.axes, self.metadata)

    def with_axes(self, axes: str) -> Stack:
        """The same samples under other letters.

        Raises
        ------
        UsageError
            `axes` do not fit the shape.
        """
        renamed = replace(self, axes=axes)
        check_axes(renamed, axes)
        frame = regrouped(self.frame, self.shape, self.leading, renamed.leading)
        return replace(renamed, frame=frame)


def regrouped(
    frame: Callable[[int], Array], shape: tuple[int, ...], old: int, new: int
) -> Callable[[int], Array]:
    """Read frames behind `new` axes of `shape` by means of `frame`, which reads those behind `old`.

    Larger frames are put together, smaller ones are cut from the last one read.
    """
    if new == old:
        return frame
    count = math.prod(shape[min(old, new) : max(old, new)])
    if new < old:
        return lambda i: np.stack([frame(i * count + j) for j in range(count)]).reshape(shape[new:])
    last: dict[int, Array] = {}

    def part(index: int) -> Array:
        whole = index // count
        if whole not in last:
            last.clear()
            last[whole] = frame(whole).reshape(count, *shape[new:])
        return last[whole][index % count]

    return part


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


def _leading(axes: str) -> int:
    return min((axes.index(letter) for letter in "SYX" if letter in axes), default=0)


def check_axes(samples: Array | Stack, axes: str) -> None:
    """Raise UsageError unless `axes` describes `samples`."""
    if len(axes) != len(samples.shape):
        raise UsageError(
            f"axes {axes!r} name {len(axes)} dimensions, the array of shape {samples.shape} "
            f"has {len(samples.shape)}; give one letter for each"
        )
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise UsageError(f"axes {axes!r} must hold Y and X once; say for instance 'ZYX'")
    if axes.count("S") > 1 or ("S" in axes and not 1 <= samples.shape[axes.index("S")] <= 4):
        raise UsageError(
            f"axes {axes!r} of shape {samples.shape}: S holds 1 (gray) to 4 (RGB and alpha) "
            "samples; use C for independent channels"
        )
    if 0 in samples.shape:
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
