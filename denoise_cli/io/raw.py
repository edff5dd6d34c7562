"""Camera raw files by LibRaw: the mosaic as stored, and what it takes to render it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import UnreadableImage
from ..image import Image, Metadata
from ..mosaic import Mosaic, Noise
from . import exif as exif_, jpeg
from .exif import Field
from .sensor import ASCII, BYTE, RATIONAL, SHORT, SRATIONAL, Sensor, area_of, field, pattern_of

NAME = "camera raw"
SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"}
    | {".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".sr2", ".srw"}
)
READ_ONLY = "camera raw files are written as .dng, or developed to .tif, .png or .jpg"

TIFF_MARKS = (b"II*\0", b"MM\0*")
# Camera raw files that are no TIFF: (offset, magic bytes).
MARKS = (
    (0, b"FUJIFILMCCD-RAW"),
    (4, b"ftypcrx"),
    (0, b"IIU\0"),
    (0, b"IIRO"),
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"\0MRM"),
    (6, b"HEAPCCDR"),
)

SUB_DIRECTORIES, DNG_VERSION, CFA, LINEAR = 330, 50706, 32803, 34892
MAKE, MODEL, SOFTWARE, HISTORY, UNIQUE_MODEL = 271, 272, 305, 37395, 50708
MAKER_NOTE, NOISE_PROFILE = 37500, 51041
D65 = 21  # EXIF light source

# Kept of the first directory of a file that is no DNG (EXIF 2.32, table 4).
FIRST = frozenset({270, MAKE, MODEL, SOFTWARE, 306, 315, 33432, 40091, 40092, 40093, 40094, 40095})
FIRST |= {exif_.EXIF_POINTER, exif_.GPS_POINTER}
# Untrue of the written file: how samples lay, levels before LibRaw applied the table, digests of
# the samples, previews, the noise as it was, and what has offsets into the old file.
DROPPED = frozenset(range(254, 264)) | frozenset(range(264, 267)) | frozenset(range(317, 326))
DROPPED |= {273, 277, 278, 279, 280, 281, 284, 292, 293, SUB_DIRECTORIES, 338, 339, 347, 513, 514}
DROPPED |= {529, 530, 531, 532, 33421, 33422, 50710, 50711, 50712, 50713, 50714, 50715, 50716}
DROPPED |= {50717, 50740, 50781, 50828, 50829, 50830, 50933, 50935, 50966, 50967, 50968, 50969}
DROPPED |= {50970, 50971, 50972, NOISE_PROFILE, 50975, 51111, 37724, 65420}

# XYZ (D65) to linear sRGB, IEC 61966-2-1: of cameras that nothing is known of.
SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))


def matches(header: bytes) -> bool:
    """Whether a file that begins so is camera raw; see `claims` for those that are TIFFs."""
    cr2 = header[:4] in TIFF_MARKS and header[8:10] == b"CR"
    return cr2 or any(header.startswith(magic, offset) for offset, magic in MARKS)


def claims(path: Path, header: bytes) -> bool:
    """Whether a file that begins like a TIFF is camera raw, by its tags or its suffix."""
    if header[:4] not in TIFF_MARKS or header[128:132] == b"DICM":
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    directories = _directories(path)
    made = bool(directories) and MAKE in directories[0]
    return any(DNG_VERSION in d for d in directories[:1]) or (
        made and any(_photometric(directory) == CFA for directory in directories)
    )


def read(path: Path) -> Image:
    """Read the mosaic of a camera raw file.

    The samples (Y, X) are the whole sensor, as LibRaw gives them: unpacked and linearized, but
    with their black level.
    """
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            return _image(raw, path)
    except rawpy.LibRawFileUnsupportedError as error:
        raise UnreadableImage(
            "a camera raw file that LibRaw does not read; convert it to DNG first"
        ) from error
    except rawpy.LibRawError as error:
        raise UnreadableImage(
            f"damaged or truncated camera raw file ({error}); copy it again"
        ) from error


def _image(raw: Any, path: Path) -> Image:
    import rawpy

    if raw.raw_type != rawpy.RawType.Flat or raw.raw_pattern is None:
        raise UnreadableImage(
            "a camera raw file without a mosaic (linear, monochrome or of another sensor); "
            "develop it to a TIFF first"
        )
    if set(raw.color_desc.decode("ascii")) != set("RGB") or raw.raw_pattern.size < 4:
        raise UnreadableImage("a mosaic of other colors than RGB; develop it to a TIFF first")
    directories = _directories(path) or _preview_directories(raw)
    tags = _tags(raw, directories)
    colors, black = pattern_of(raw)
    mosaic = Mosaic(colors, black, float(raw.white_level), area_of(raw))
    mosaic = replace(mosaic, noise=_noise_profile(directories, mosaic))
    sensor = Sensor(
        mosaic,
        raw.sizes.flip,
        tuple(raw.camera_whitebalance),
        raw.color_matrix[:, :3].copy(),
        tags,
    )
    first = {code: tags[code] for code in FIRST & tags.keys()}
    if sensor.orientation != 1:
        first[exif_.ORIENTATION] = field(SHORT, sensor.orientation)
    metadata = Metadata(
        exif=exif_.build(first),
        orientation=sensor.orientation,
        format="dng",
        native={"sensor": sensor},
        view=mosaic,
    )
    return Image(raw.raw_image.copy(), "YX", metadata)


def _directories(path: Path) -> list[dict[int, Field]]:
    """The first directory of a TIFF and those below it; none of other files."""
    with path.open("rb") as file:
        header = file.read(8)
        if header[:4] not in TIFF_MARKS:
            return []
        order = "<" if header.startswith(b"II") else ">"
        (offset,) = struct.unpack_from(order + "I", header, 4)
        first = exif_.read_directory(file, offset, order)
        below = first[SUB_DIRECTORIES].numbers() if SUB_DIRECTORIES in first else []
        return [first, *(exif_.read_directory(file, where, order) for where in below[:16])]


def _preview_directories(raw: Any) -> list[dict[int, Field]]:
    """EXIF of the preview in a file that is no TIFF."""
    import rawpy

    try:
        preview = raw.extract_thumb()
    except rawpy.LibRawError:
        return []
    if preview.format != rawpy.ThumbFormat.JPEG:
        return []
    exif = jpeg.exif_of(preview.data)
    return [exif_.parse(exif)] if exif else []


def _photometric(directory: Mapping[int, Field]) -> int | None:
    return directory[262].numbers()[0] if 262 in directory else None


def _tags(raw: Any, directories: list[dict[int, Field]]) -> dict[int, Field]:
    """What a DNG says besides its samples."""
    first = directories[0] if directories else {}
    if DNG_VERSION in first:
        mosaics = [d for d in directories[1:] if _photometric(d) == CFA]
        tags = {k: v for d in [first, *mosaics[:1]] for k, v in d.items() if k not in DROPPED}
    else:
        tags = {code: tag for code, tag in first.items() if code in FIRST}
        tags |= _calibration(raw)
    tags[exif_.EXIF_POINTER] = Field(exif_.LONG, children=_exif(raw, first))
    tags.setdefault(SOFTWARE, field(ASCII, f"denoise {__version__}"))
    tags.setdefault(DNG_VERSION, field(BYTE, 1, 4, 0, 0))
    tags.setdefault(50707, field(BYTE, 1, 1, 0, 0))
    tags.setdefault(MAKE, field(ASCII, "Unknown"))
    tags.setdefault(MODEL, field(ASCII, "Unknown"))
    tags.setdefault(UNIQUE_MODEL, tags[MODEL])
    return tags


def _calibration(raw: Any) -> dict[int, Field]:
    """Color matrix and white balance as DNG tags."""
    matrix = raw.rgb_xyz_matrix[:3]
    if not matrix.any():
        matrix = np.array(SRGB)
    tags = {
        50721: field(SRATIONAL, *(Fraction(round(v * 10000), 10000) for v in matrix.flat)),
        50778: field(SHORT, D65),
    }
    balance = raw.camera_whitebalance[:3]
    if min(balance) > 0:
        neutral = [Fraction(balance[1]) / Fraction(value) for value in balance]
        tags[50728] = field(RATIONAL, *neutral)
    return tags


def _exif(raw: Any, first: Mapping[int, Field]) -> dict[int, Field]:
    """The EXIF directory; without the camera's private notes, whose offsets would mislead."""
    found = dict(first[exif_.EXIF_POINTER].children or {}) if exif_.EXIF_POINTER in first else {}
    # Early cameras have it in the first directory.
    found = {c: t for c, t in first.items() if c in EXIF_CODES and t.children is None} | found
    other = raw.other
    taken = {
        33434: (RATIONAL, other.shutter_speed),
        33437: (RATIONAL, other.aperture),
        34855: (SHORT, min(round(other.iso_speed), 65535)),
        37386: (RATIONAL, other.focal_length),
    }
    for code, (kind, value) in taken.items():
        if value > 0 and code not in found:
            found[code] = field(kind, value)
    if raw.lens.model and 42036 not in found:
        found[42036] = field(ASCII, raw.lens.model)
    if other.timestamp.year > 1970 and 36867 not in found:
        found[36867] = field(ASCII, f"{other.timestamp:%Y:%m:%d %H:%M:%S}")
    found.setdefault(36864, Field(7, b"0231"))
    found[HISTORY] = field(ASCII, f"Noise of the mosaic reduced by denoise {__version__}")
    return {code: tag for code, tag in found.items() if code != MAKER_NOTE}


EXIF_CODES = frozenset({33434, 33437, 34850, 34855, 36867, 36868, *range(37377, 37387)})


def _noise_profile(directories: list[dict[int, Field]], mosaic: Mosaic) -> Noise | None:
    """The noise a DNG declares (tag NoiseProfile: variance of samples on 0..1)."""
    found = [d[NOISE_PROFILE] for d in directories if NOISE_PROFILE in d]
    if not found or found[0].kind != 12:
        return None
    pairs = np.array(found[0].numbers()).reshape(-1, 2)
    shot, read = pairs[len(pairs) // 2]  # of green, where there is one for each color
    span = mosaic.white - float(np.mean(mosaic.black))
    if not (shot > 0 and read >= 0):
        return None
    return Noise(shot=float(shot) * span, read=float(read) * span**2)
