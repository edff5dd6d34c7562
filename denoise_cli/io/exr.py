"""OpenEXR: half and float, gray and RGB with and without alpha; needs the extra "exr"."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Image, Metadata, Stack
from .extras import needed
from .limits import check_bare, check_single

NAME = "OpenEXR"
SUFFIXES = frozenset({".exr"})

# Which channels are a picture, in the order of its samples.
PICTURES = (("R", "G", "B", "A"), ("R", "G", "B"), ("Y", "A"), ("Y",))
DERIVED = ("channels", "dataWindow", "displayWindow", "type", "tiles", "chunkCount", "version")


def matches(header: bytes) -> bool:
    """Whether a file that begins so is an OpenEXR."""
    return header.startswith(b"v/1\x01")


def read(path: Path) -> Image:
    """Read the R, G, B or Y and the A of the first part; other channels are carried along."""
    OpenEXR = needed("OpenEXR", "exr", UnreadableImage, NAME)
    said = io.StringIO()  # the library prints what it could not read, and goes on
    with (
        redirect_stdout(said),
        _voiceless(),
        OpenEXR.File(str(path), separate_channels=True) as file,
    ):
        if said.getvalue():
            raise UnreadableImage("damaged or truncated OpenEXR; copy or export it again")
        if len(file.parts) > 1:
            raise UnreadableImage(f"holds {len(file.parts)} parts, which are not read; split it")
        header = dict(file.header())
        channels = {name: np.array(c.pixels) for name, c in file.channels().items()}
    names = next((n for n in PICTURES if set(n) <= channels.keys()), None)
    if names is None:
        raise UnreadableImage(
            f"holds the channels {', '.join(channels)}, but neither R, G, B nor Y; rename them"
        )
    planes = [channels.pop(name) for name in names]
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
        raise UnreadableImage("its channels are of different sizes or types; export it again")
    native = {"header": header, "others": channels}
    samples = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
    return Image(
        samples, "YX" if len(planes) == 1 else "YXS", Metadata(format="exr", native=native)
    )


@contextmanager
def _voiceless() -> Iterator[None]:
    """Keep the library's own voice off stderr, which is below that of Python."""
    sys.stderr.flush()
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(nowhere)
        os.close(before)


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if an OpenEXR cannot hold pictures of this kind."""
    needed("OpenEXR", "exr", UnwritableOutput, NAME)
    check_single(stack, NAME)
    if stack.dtype.name not in ("float16", "float32"):
        raise UnwritableOutput(
            f"OpenEXR holds float16 or float32 samples, not {stack.dtype}; write a .tif file"
        )
    check_bare(stack, NAME, ".tif")


def write(path: Path, image: Image) -> None:
    """Write one part with the attributes of its source, compressed without loss."""
    OpenEXR = needed("OpenEXR", "exr", UnwritableOutput, NAME)
    samples, axes = image.samples, image.axes
    planes = [samples] if axes == "YX" else list(np.moveaxis(samples, -1, 0))
    names = {1: ("Y",), 2: ("Y", "A"), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}[len(planes)]
    native = image.metadata.native if image.metadata.format == "exr" else {}
    channels = {
        name: np.ascontiguousarray(plane) for name, plane in zip(names, planes, strict=True)
    }
    header = _header(native.get("header", {}), OpenEXR)
    with OpenEXR.File(header, channels | dict(native.get("others", {}))) as file:
        file.write(str(path))


def _header(source: dict[str, Any], OpenEXR: Any) -> dict[str, Any]:
    header = {key: value for key, value in source.items() if key != "channels"}
    header["type"] = OpenEXR.scanlineimage
    header.pop("tiles", None)
    lossless = {
        OpenEXR.NO_COMPRESSION,
        OpenEXR.RLE_COMPRESSION,
        OpenEXR.ZIPS_COMPRESSION,
        OpenEXR.ZIP_COMPRESSION,
        OpenEXR.PIZ_COMPRESSION,
    }
    if header.get("compression") not in lossless:
        header["compression"] = OpenEXR.ZIP_COMPRESSION
    return header
