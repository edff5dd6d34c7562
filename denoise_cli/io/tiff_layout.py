"""What reading and writing TIFF share: tags, and how samples lie in a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from . import exif as exif_
from .exif import Field

DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, SEPARATED, YCBCR, CFA = 0, 1, 2, 3, 4, 5, 6, 32803
COLORS = {MASK: "mask", SEPARATED: "CMYK", CFA: "raw mosaic", 34892: "linear raw"}
COLORS |= {8: "Lab", 9: "Lab", 10: "Lab", 32844: "LogL", 32845: "LogLuv", YCBCR: "YCbCr"}

NO_COMPRESSION, DEFLATE = 1, 8
# LZW, deflate, PackBits, LZMA, Zstandard. Lossy ones are not repeated: deflate takes their place.
LOSSLESS = frozenset({1, 5, 8, 32773, 34925, 50000})
JPEG_COMPRESSIONS = frozenset({6, 7, 33007, 34892})
UNPREDICTED = frozenset({1, 32773})  # compressions without a predictor

DESCRIPTION, ICC, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 270, 34675, 282, 283, 296
INCHES = {2: 1.0, 3: 2.54}  # resolution unit in inches: per inch, per centimeter

CLASSIC_BYTES = 2**32 - 2**25  # beyond, BigTIFF; the margin is for the tags

# Tags on how the samples lie in the file, or on their values: written by tifffile, or untrue
# once the samples have changed.
STRUCTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284}
    | {288, 289, 290, 291, 292, 293, 317, 318, 319, 320, 322, 323, 324, 325, 330, 338, 339, 340}
    | {341, 347, 400, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532}
    | {32996, 32997, 32998}
)
# Tags that hold offsets into the file or the original pixels: they would mislead in another one.
BOUND = frozenset({33628, 33629, 33630, 33631, 34412, 37724, 50740, 65420})
# What EXIF stores in its first directory (EXIF 2.32, table 4), beside its pointers.
EXIF_TAGS = frozenset({270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432})
EXIF_TAGS |= frozenset({18246, 18249, 40091, 40092, 40093, 40094, 40095})
EXIF_TAGS |= frozenset({exif_.EXIF_POINTER, exif_.GPS_POINTER})
RESOLUTION_TAGS = frozenset({X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT})


@dataclass(frozen=True)
class Layout:
    """How the samples of a file are stored, to store others the same way.

    `tags` are those of the first page that are not EXIF. `described` is the shape and dtype that
    its description (of OME, ImageJ or tifffile) stands for. `levels` are the heights and widths of
    the smaller copies that a pyramid holds of each page. `page_tags` are the tags of each later
    page that the first one has not, or has otherwise; empty if there are none.
    """

    order: Literal["<", ">"] = "<"
    big: bool = False
    photometric: int | None = None
    planar: bool = False
    extra: tuple[int, ...] = ()
    compression: int = DEFLATE
    predictor: bool = True
    tile: tuple[int, ...] | None = None
    rows: int | None = None
    tags: Mapping[int, Field] = field(default_factory=dict)
    described: tuple[str, tuple[int, ...], str] | None = None
    levels: tuple[tuple[int, int], ...] = ()
    page_tags: tuple[Mapping[int, Field], ...] = ()


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep the log of tifffile off stderr; collect its errors, but not those about a mere tag."""
    complaints: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.levelno >= logging.ERROR and "TiffTag" not in text:
                complaints.append(" ".join(text.partition("> ")[2].split()) or text)

    logger = logging.getLogger("tifffile")
    handler, propagate = Collector(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield complaints
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
