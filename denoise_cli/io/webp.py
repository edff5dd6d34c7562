"""WebP: 8-bit RGB with and without alpha, still and animated; written without loss."""

from __future__ import annotations

from pathlib import Path

from ..image import Image, Stack
from . import pillow

NAME = "WebP"
SUFFIXES = frozenset({".webp"})


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a WebP."""
    return header[:4] == b"RIFF" and header[8:12] == b"WEBP"


def read(path: Path) -> Image:
    """Read a WebP; frames of an animation are along T, as they are shown."""
    from PIL.WebPImagePlugin import WebPImageFile

    with pillow.opened(WebPImageFile, path) as picture:
        return pillow.read(picture, "webp")


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a WebP cannot hold pictures of this kind."""
    pillow.check(stack, NAME, animated=True)


def write(path: Path, image: Image) -> None:
    """Write a WebP without loss: its lossy form halves the resolution of color."""
    first, *others = pillow.pictures(image)
    options = pillow.save_options(image)
    if others:
        options |= {"save_all": True, "append_images": others}
    # `exact` keeps the colors under full transparency.
    first.save(path, "WEBP", lossless=True, exact=True, **options)
