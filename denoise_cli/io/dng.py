"""DNG: the mosaic of a camera sensor with what a developer needs to render it (DNG 1.4)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnwritableOutput
from ..image import Array, Image, Metadata, Stack
from . import exif as exif_, raw
from .exif import Field
from .sensor import BYTE, LONG, RATIONAL, SHORT, Sensor, area_of, field, pattern_of, sensor_of

NAME = "DNG"
SUFFIXES = frozenset({".dng"})

STRIP_OFFSETS = 273
CFA = 32803
BYTES = 2**32 - 2**25  # beyond, offsets do not fit


def matches(header: bytes) -> bool:
    """Never: a file is a DNG by its tags, so `denoise_cli.io.raw` recognizes and reads it."""
    return False


def read(path: Path) -> Image:
    """Read a DNG as any camera raw file."""
    return raw.read(path)


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a DNG cannot hold pictures of this kind."""
    if sensor_of(stack) is None:
        raise UnwritableOutput(
            "a DNG holds the mosaic of a camera raw file, which this is not; write a TIFF or PNG"
        )


def write(path: Path, image: Image) -> None:
    """Write an Image read from a camera raw file, uncompressed, and check it with LibRaw.

    The file has one directory, with the mosaic, the color calibration and EXIF.
    """
    sensor = sensor_of(image)
    assert sensor is not None  # by `check`
    with path.open("wb") as file:
        file.writelines(encoded(image.samples, sensor))
    _check(path, image.samples, sensor)


def develop(image: Image, *, bits: int) -> Image:
    """Render a mosaic to sRGB of 8 or 16 `bits`, upright, with the white balance of the camera."""
    import rawpy

    sensor = sensor_of(image)
    if sensor is None:
        return image
    file = io.BytesIO(b"".join(encoded(image.samples, sensor)))
    with rawpy.imread(file) as developed:
        # Brightness must not depend on the brightest sample, which noise makes.
        samples = developed.postprocess(
            use_camera_wb=True, output_bps=bits, no_auto_bright=True, adjust_maximum_thr=0.0
        )
    exif = exif_.parse(image.metadata.exif or b"")
    if exif:
        exif[exif_.ORIENTATION] = field(SHORT, 1)
    metadata = Metadata(exif=exif_.build(exif) if exif else None)
    return Image(samples, "YXS", metadata)


def encoded(samples: Array, sensor: Sensor) -> list[Any]:
    """The file as pieces of bytes: directory and samples."""
    if samples.nbytes > BYTES:
        raise UnwritableOutput("more than the 4 GB a DNG can hold; crop it")
    directory = {**sensor.tags, **_structure(samples, sensor)}
    # The samples follow the directory, whose length does not depend on where they are.
    directory[STRIP_OFFSETS] = field(LONG, 0)
    length = len(exif_.build(directory))
    directory[STRIP_OFFSETS] = field(LONG, length)
    return [exif_.build(directory), np.ascontiguousarray(samples, "<u2").data]


def _structure(samples: Array, sensor: Sensor) -> dict[int, Field]:
    """Tags on the samples themselves (TIFF 6.0; TIFF/EP for the mosaic; DNG for its levels)."""
    mosaic = sensor.mosaic
    rows, columns = samples.shape
    top, left, height, width = mosaic.area
    colors = np.array(mosaic.colors, np.uint8)
    levels = np.array(mosaic.black)
    if (levels == levels.flat[0]).all():
        levels = levels[:1, :1]
    return {
        254: field(LONG, 0),  # full size
        256: field(LONG, columns),
        257: field(LONG, rows),
        258: field(SHORT, 16),
        259: field(SHORT, 1),  # uncompressed
        262: field(SHORT, CFA),
        274: field(SHORT, sensor.orientation),
        277: field(SHORT, 1),
        278: field(LONG, rows),
        279: field(LONG, samples.nbytes),
        284: field(SHORT, 1),
        33421: field(SHORT, *colors.shape),
        33422: field(BYTE, colors.tobytes()),
        50710: field(BYTE, 0, 1, 2),  # planes are red, green, blue
        50711: field(SHORT, 1),  # rectangular
        50713: field(SHORT, *levels.shape),
        50714: field(RATIONAL, *levels.ravel().tolist()),
        50717: field(LONG, round(mosaic.white)),
        50829: field(LONG, top, left, top + height, left + width),
        50935: field(RATIONAL, 1),  # noise reduction was applied
    }


def _check(path: Path, samples: Array, sensor: Sensor) -> None:
    """Raise UnwritableOutput unless LibRaw finds in the file what was put there."""
    import rawpy

    try:
        with rawpy.imread(str(path)) as found:
            differing = list(_differences(found, samples, sensor))
    except rawpy.LibRawError as error:
        raise UnwritableOutput(f"LibRaw does not read the DNG ({error}); write a TIFF") from error
    if differing:
        raise UnwritableOutput(
            f"LibRaw reads another {', '.join(differing)} from the DNG; write a TIFF instead"
        )


def _differences(found: Any, samples: Array, sensor: Sensor) -> Iterable[str]:
    mosaic = sensor.mosaic
    if not np.array_equal(found.raw_image, samples):
        yield "mosaic"
    if area_of(found) != mosaic.area or found.sizes.flip != sensor.flip:
        yield "area or orientation"
    colors, black = pattern_of(found)
    if colors != mosaic.colors:
        yield "pattern"
    if black != mosaic.black or found.white_level != mosaic.white:
        yield "black or white level"
    if not np.allclose(_relative(found.camera_whitebalance), _relative(sensor.balance), rtol=1e-4):
        yield "white balance"
    # Of some early cameras LibRaw knows no matrix, but a DNG must have one.
    known = sensor.color_matrix.any()
    if known and not np.allclose(found.color_matrix[:, :3], sensor.color_matrix, atol=2e-3):
        yield "color matrix"


def _relative(balance: Mapping[int, float] | Any) -> Array:
    values = np.array(list(balance)[:3], float)
    return values / values[1] if values[1] else values
