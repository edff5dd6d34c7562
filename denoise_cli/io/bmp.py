"""BMP: 8 bits, gray and RGB with and without alpha; palettes become RGB."""

from __future__ import annotations

from pathlib import Path

from ..errors import UnwritableOutput
from ..image import Image, Stack
from . import pillow
from .limits import check_bare, sample_count

NAME = "BMP"
SUFFIXES = frozenset({".bmp", ".dib"})


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a BMP."""
    # The header size that follows tells it from text that begins with BM.
    return header[:2] == b"BM" and header[14:18] in {bytes((n, 0, 0, 0)) for n in SIZES}


SIZES = (12, 16, 40, 52, 56, 64, 108, 124)


def read(path: Path) -> Image:
    """Read a BMP."""
    from PIL.BmpImagePlugin import BmpImageFile

    with pillow.opened(BmpImageFile, path) as picture:
        return pillow.read(picture, "bmp")


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a BMP cannot hold pictures of this kind."""
    pillow.check(stack, NAME)
    if sample_count(stack) == 2:
        raise UnwritableOutput("BMP cannot hold gray with transparency; write a .png file")
    check_bare(stack, NAME)


def write(path: Path, image: Image) -> None:
    """Write a BMP with its resolution; it has no place for a profile or EXIF."""
    (picture,) = pillow.pictures(image)
    dpi = image.metadata.native.get("dpi")
    picture.save(path, "BMP", **({"dpi": dpi} if dpi else {}))
