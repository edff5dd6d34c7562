"""AVIF: 8, 10 and 12 bits, gray and RGB with and without alpha."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Array, Image, Stack
from . import pillow
from .depth import narrowed, widened
from .limits import check_single

NAME = "AVIF"
SUFFIXES = frozenset({".avif"})

QUALITY = 95  # as for JPEG: denoising shall cost no detail to compression
UNSPECIFIED = 2  # of primaries, transfer and matrix (ITU-T H.273)


def matches(header: bytes) -> bool:
    """Whether a file that begins so is an AVIF picture."""
    return header[4:8] == b"ftyp" and header[8:12] in (b"avif", b"avis")


def read(path: Path) -> Image:
    """Read an AVIF; 10 and 12 bits are widened to 16, as PNG's 1 to 4 bits to 8."""
    from PIL.AvifImagePlugin import AvifImageFile

    encoded = path.read_bytes()
    depth, color = _depth(encoded), _color(encoded)
    with pillow.opened(AvifImageFile, path) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise UnreadableImage("an animated AVIF, which is not read; export its frames")
        if depth == 8:
            return pillow.read(picture, "avif", color=color, depth=depth)
        metadata = pillow.metadata(picture, "avif", color=color, depth=depth)
    import imagecodecs

    samples: Array = imagecodecs.avif_decode(encoded)
    return Image(widened(samples, (1 << depth) - 1), "YX" if samples.ndim == 2 else "YXS", metadata)


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if an AVIF cannot hold pictures of this kind."""
    if stack.dtype != np.uint16:
        pillow.check(stack, NAME)
        return
    check_single(stack, NAME)
    metadata = stack.metadata
    if metadata.icc or metadata.exif or metadata.native.get("xmp") or metadata.orientation != 1:
        raise UnwritableOutput(
            "AVIF of 10 and 12 bits is written without profile and EXIF, which this picture has; "
            "write a .png or .tif file"
        )


def write(path: Path, image: Image) -> None:
    """Write an AVIF without chroma subsampling, of the depth it was read with."""
    native = image.metadata.native if image.metadata.format == "avif" else {}
    color = native.get("color")
    if image.samples.dtype == np.uint16:
        encoded = _encode_deep(image, native.get("depth", 12), color)
        path.write_bytes(encoded)
        return
    (picture,) = pillow.pictures(image)
    options = pillow.save_options(image)
    sampling = "4:0:0" if picture.mode == "L" else "4:4:4"
    picture.save(path, "AVIF", quality=QUALITY, subsampling=sampling, **options)
    if color is not None:
        _patch_color(path, color)


def _encode_deep(image: Image, depth: int, color: tuple[int, int, int] | None) -> bytes:
    import imagecodecs

    depth = max(depth, 10)
    samples = narrowed(image.samples, (1 << depth) - 1)
    primaries, transfer, _ = color or (UNSPECIFIED,) * 3
    return bytes(
        imagecodecs.avif_encode(
            samples,
            level=QUALITY,
            bitspersample=depth,
            primaries=primaries,
            transfer=transfer,
        )
    )


def _depth(encoded: bytes) -> int:
    """Bits per sample by the AV1 configuration box (AV1-ISOBMFF, 2.3.3)."""
    at = encoded.find(b"av1C")
    flags = encoded[at + 6] if at >= 0 and at + 6 < len(encoded) else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _color(encoded: bytes) -> tuple[int, int, int] | None:
    """Primaries, transfer and matrix by the color information box (ISO/IEC 14496-12, 12.1.5)."""
    at = encoded.find(b"colrnclx")
    return struct.unpack_from(">HHH", encoded, at + 8) if at >= 0 else None


def _patch_color(path: Path, color: tuple[int, int, int]) -> None:
    """Say the primaries and transfer of the source; the matrix is the encoder's."""
    encoded = bytearray(path.read_bytes())
    at = encoded.find(b"colrnclx")
    if at >= 0:
        struct.pack_into(">HH", encoded, at + 8, *color[:2])
        path.write_bytes(encoded)
