"""GIF, still and animated: read; not written, since 256 colors would bring noise back."""

from __future__ import annotations

from pathlib import Path

from ..image import Image
from . import pillow

NAME = "GIF"
SUFFIXES = frozenset({".gif"})
READ_ONLY = "GIF holds 256 colors, too few for a denoised picture; write a .png or .webp file"


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a GIF."""
    return header[:6] in (b"GIF87a", b"GIF89a")


def read(path: Path) -> Image:
    """Read a GIF; frames of an animation are along T, as they are shown."""
    from PIL.GifImagePlugin import GifImageFile

    with pillow.opened(GifImageFile, path) as picture:
        return pillow.read(picture, "gif")
