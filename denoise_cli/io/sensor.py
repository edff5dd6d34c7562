"""What makes a picture of the mosaic of a sensor, between reading raw files and writing DNG."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..image import Array, Image, Stack
from ..mosaic import Mosaic
from .exif import Field

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
LETTERS = {BYTE: "B", SHORT: "H", LONG: "I"}

# EXIF orientation of LibRaw's flip.
ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}


@dataclass(frozen=True)
class Sensor:
    """What makes a picture of a mosaic: its layout, LibRaw's numbers, and tags for a DNG."""

    mosaic: Mosaic
    flip: int
    balance: tuple[float, ...]
    color_matrix: Array
    tags: Mapping[int, Field]

    @property
    def orientation(self) -> int:
        """As in EXIF."""
        return ORIENTATIONS.get(self.flip, 1)


def sensor_of(image: Image | Stack) -> Sensor | None:
    """The sensor an image is the mosaic of, if it is one."""
    found = image.metadata.native.get("sensor")
    return found if isinstance(found, Sensor) else None


def area_of(raw: Any) -> tuple[int, int, int, int]:
    """Top, left, height and width of what light falls on."""
    sizes = raw.sizes
    return (sizes.top_margin, sizes.left_margin, sizes.height, sizes.width)


def pattern_of(raw: Any) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[float, ...], ...]]:
    """The colors of the filters (0 red, 1 green, 2 blue) and their black levels."""
    rows, columns = raw.raw_pattern.shape
    places = raw.raw_colors_visible[:rows, :columns]
    names = raw.color_desc.decode("ascii")
    colors = tuple(tuple("RGB".index(names[i]) for i in row) for row in places)
    levels = raw.black_level_per_channel
    return colors, tuple(tuple(float(levels[i]) for i in row) for row in places)


def field(kind: int, *values: Any) -> Field:
    """A tag of numbers (fractions for rationals), or of one text or bytes."""
    if isinstance(values[0], str):
        return Field(ASCII, values[0].encode("utf-8") + b"\0")
    if isinstance(values[0], bytes):
        return Field(kind, values[0])
    if kind in (RATIONAL, SRATIONAL):
        parts = [_rational(value, signed=kind == SRATIONAL) for value in values]
        return Field(kind, b"".join(parts))
    return Field(kind, struct.pack(f"<{len(values)}{LETTERS[kind]}", *values))


def _rational(value: Any, *, signed: bool) -> bytes:
    fraction = Fraction(value).limit_denominator(2**20)
    return struct.pack("<ii" if signed else "<II", fraction.numerator, fraction.denominator)
