"""What several formats cannot hold, told by the kind of a picture before there are samples."""

from __future__ import annotations

from ..errors import UnwritableOutput
from ..image import Stack


def sample_count(stack: Stack) -> int:
    """Color samples of a pixel."""
    return stack.shape[stack.axes.index("S")] if "S" in stack.axes else 1


def check_single(stack: Stack, name: str, *, animated: bool = False) -> None:
    """Refuse more than one picture; with `animated` frames along T are fine."""
    if stack.axes not in ("YX", "YXS") and not (animated and stack.axes in ("TYX", "TYXS")):
        raise UnwritableOutput(
            f"{name} holds one picture, not axes {stack.axes}; write a .tif file"
        )


def check_8_bits(stack: Stack, name: str) -> None:
    """Refuse other samples than unsigned integers of 8 bits."""
    if stack.dtype.name != "uint8":
        other = ".png or .tif" if stack.dtype.name == "uint16" else ".tif"
        raise UnwritableOutput(
            f"{name} holds 8 bits per sample, not {stack.dtype}; write a {other} file"
        )


def check_16_bits(stack: Stack, name: str, bits: str) -> None:
    """Refuse other samples than unsigned integers of up to 16 `bits`."""
    if stack.dtype.name not in ("uint8", "uint16"):
        raise UnwritableOutput(
            f"{name} holds unsigned integers of {bits} bits, not {stack.dtype}; write a .tif file"
        )


def check_opaque(stack: Stack, name: str) -> None:
    """Refuse transparency."""
    if sample_count(stack) in (2, 4):
        raise UnwritableOutput(f"{name} cannot hold transparency; write a .png or .tif file")


def check_bare(stack: Stack, name: str, other: str = ".png or .tif") -> None:
    """Refuse a profile and EXIF, which would be lost."""
    if stack.metadata.icc or stack.metadata.exif:
        raise UnwritableOutput(f"{name} cannot hold a color profile or EXIF; write a {other} file")
