"""What --report and --preview show of an image: pictures as a screen shows them, and numbers."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..image import Image, to_planes, upright

if TYPE_CHECKING:
    from ..noise_report import NoiseReport

LONGEST = 1200  # side of the pictures in the page, in pixels
CROP = 128  # side of the crops, in pixels of the image
CROPS = 2


@dataclass(frozen=True)
class Figure:
    """An image in the page of --report.

    Attributes
    ----------
    record : mapping
        What --json says of it.
    before, after : str
        Addresses with the picture in them, on the same scale.
    size : tuple of int
        Width and height of these pictures.
    crops : sequence of tuple
        Addresses of crops before and after, pixel by pixel.
    noise : NoiseReport
        Of the image as recorded.
    removed : sequence of float
        Spectrum of what was taken away; empty for tiny images.
    curve : sequence of mapping
        The numbers of each step of the adaptation.
    plane : str
        Which of several planes is shown; empty if there is one.
    """

    record: Mapping[str, Any]
    before: str
    after: str
    size: tuple[int, int]
    crops: Sequence[tuple[str, str]]
    noise: NoiseReport
    removed: Sequence[float]
    curve: Sequence[Mapping[str, float | None]] = field(default_factory=tuple)
    plane: str = ""


def draw(
    record: Mapping[str, Any],
    noisy: Image,
    denoised: Image,
    curve: Sequence[Mapping[str, float | None]],
    place: str = "",
) -> Figure:
    """The figure of an image, or of the frame at some `place` of a stack, and what it became."""
    from ..noise_report import SIZE, measure, spectrum

    linear, cleaned = network_planes(noisy, denoised)
    noisy, denoised = _developed(noisy), _developed(denoised)
    before, after, plane = _pictures(noisy, denoised)
    shown = [upright(picture, noisy.metadata.orientation) for picture in (before, after)]
    small = [_fit(picture) for picture in shown]
    boxes = _places(shown[0], shown[1])
    return Figure(
        record=record,
        before=_address(small[0]),
        after=_address(small[1]),
        size=(small[0].shape[1], small[0].shape[0]),
        crops=[(_address(a, exact=True), _address(b, exact=True)) for a, b in boxes],
        noise=measure(linear),
        removed=spectrum(linear - cleaned) if min(linear.shape[1:]) >= SIZE else (),
        curve=curve,
        plane=place or plane,
    )


def crops(noisy: Image, denoised: Image) -> tuple[np.ndarray, np.ndarray]:
    """The most telling crop (Y, X, 3), 8 bits, before and after."""
    noisy, denoised = _developed(noisy), _developed(denoised)
    before, after, _ = _pictures(noisy, denoised)
    orientation = noisy.metadata.orientation
    return _places(upright(before, orientation), upright(after, orientation))[0]


def network_planes(*images: Image) -> list[np.ndarray]:
    """The middle plane (C, Y, X) of each image, on the 0..1 of the first one.

    Of camera raw files the samples of one color, between black and white.
    """
    from ..normalize import Scale

    if all(image.metadata.view is not None for image in images):
        return [image.metadata.view.even(image.samples)[None] for image in images]  # type: ignore
    planes = [to_planes(image.samples, image.axes)[0] for image in images]
    scale = Scale.of(planes[0])
    return [scale.forward(some[len(some) // 2]) for some in planes]


def _developed(image: Image) -> Image:
    """The rendering of a camera raw file; other images as they are."""
    if image.metadata.view is None:
        return image
    from ..io.dng import develop

    return develop(image, bits=8)


def _pictures(noisy: Image, denoised: Image) -> tuple[np.ndarray, np.ndarray, str]:
    """The middle plane (Y, X, 3) of both in 8 bits, and what plane that is."""
    count = len(to_planes(noisy.samples, noisy.axes)[0])
    before, after = eight_bits(noisy, denoised)
    return before, after, f"plane {count // 2 + 1} of {count}" if count > 1 else ""


def eight_bits(noisy: Image, *others: Image) -> list[np.ndarray]:
    """The middle plane (Y, X, 3) of each image in 8 bits, as a screen shows it.

    Photos of 8 bits are shown as they are; others from the 0.1th to the 99.9th percentile of
    `noisy`, all alike, as their brightness seldom is meant for screens.
    """
    planes = network_planes(noisy, *others)
    low, high = 0.0, 1.0
    if noisy.samples.dtype != np.uint8:
        low, high = (float(value) for value in np.quantile(planes[0], (0.001, 0.999)))

    def bits(plane: np.ndarray) -> np.ndarray:
        values = np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
        picture = np.moveaxis(np.rint(values * 255).astype(np.uint8), 0, -1)
        return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture

    return [bits(plane) for plane in planes]


def _places(before: np.ndarray, after: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Crops where much detail stands beside flat ground, and where the most was taken away."""
    rows, columns = before.shape[:2]
    side = min(CROP, rows, columns)
    steps = [np.unique(np.linspace(0, n - side, 12).astype(int)) for n in (rows, columns)]
    places = [(y, x) for y in steps[0] for x in steps[1]]
    detail, taken = [], []
    for y, x in places:
        old, new = (p[y : y + side, x : x + side].mean(axis=-1) for p in (before, after))
        edges = np.abs(np.diff(new, axis=0)).mean() + np.abs(np.diff(new, axis=1)).mean()
        detail.append(edges * (0.2 + np.mean((new > 8) & (new < 247))))
        taken.append(np.abs(old - new).mean())
    chosen = [places[int(np.argmax(detail))]]
    far = [max(abs(y - chosen[0][0]), abs(x - chosen[0][1])) >= side for y, x in places]
    if any(far):
        best = max((i for i in range(len(places)) if far[i]), key=lambda i: taken[i])
        chosen.append(places[best])
    return [
        (before[y : y + side, x : x + side], after[y : y + side, x : x + side])
        for y, x in chosen[:CROPS]
    ]


def _fit(picture: np.ndarray) -> np.ndarray:
    """The picture, made smaller if it is longer than the page wants."""
    from PIL import Image as Pillow

    longest = max(picture.shape[:2])
    if longest <= LONGEST:
        return picture
    size = tuple(max(1, round(n * LONGEST / longest)) for n in picture.shape[1::-1])
    small = Pillow.fromarray(np.ascontiguousarray(picture)).resize(size, Pillow.Resampling.BOX)
    return np.asarray(small)


def _address(picture: np.ndarray, *, exact: bool = False) -> str:
    """An address that holds the picture: PNG where pixels matter, otherwise a fine JPEG."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    image = Pillow.fromarray(np.ascontiguousarray(picture))
    if exact:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=92, subsampling=0)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def polyline(
    values: Sequence[tuple[float, float]],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    width: float,
    height: float,
) -> str:
    """Points of an SVG line through `values`; `x` and `y` are what the edges stand for."""

    def place(value: float, limits: tuple[float, float], length: float) -> float:
        return (value - limits[0]) / max(limits[1] - limits[0], 1e-12) * length

    points = [
        f"{place(a, x, width):.1f},{height - place(b, y, height):.1f}"
        for a, b in values
        if math.isfinite(a) and math.isfinite(b)
    ]
    return " ".join(points)
