"""HEIC and HEIF: 8, 10 and 12 bits, RGB with and without alpha; needs the extra "heif"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Array, Image, Metadata, Stack
from . import exif as exif_, pillow
from .depth import narrowed, widened
from .exif import Field
from .extras import needed
from .limits import check_16_bits, check_single

NAME = "HEIC"
SUFFIXES = frozenset({".heic", ".heif", ".hif"})

QUALITY = 95  # as for JPEG: denoising shall cost no detail to compression
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# What the library tells of a picture and takes again when it is written.
KEPT = frozenset({"bit_depth", "chroma", "nclx_profile", "metadata", "icc_profile_type"})
KEPT |= frozenset({"content_light_level", "mastering_display_colour_volume", "pixel_aspect_ratio"})


def matches(header: bytes) -> bool:
    """Whether a file that begins so is an HEIC or HEIF picture."""
    return header[4:8] == b"ftyp" and header[8:12] in BRANDS


def read(path: Path) -> Image:
    """Read the main picture, turned upright as the format demands; 10 bits and more become 16."""
    pillow_heif = needed("pillow_heif", "heif", UnreadableImage, NAME)
    found = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    if len(found) > 1:
        raise UnreadableImage(f"holds {len(found)} pictures, which are not read; export them")
    samples: Array = np.array(found)
    if samples.dtype == np.uint16:
        bits = found.info["bit_depth"]
        samples = widened(samples >> (16 - bits), (1 << bits) - 1)  # shifted by the library
    axes = "YX" if samples.ndim == 2 else "YXS"
    return Image(samples, axes, _metadata(found.info))


def _metadata(info: dict[str, Any]) -> Metadata:
    exif = info.get("exif")
    if exif is not None:
        exif = exif[exif.startswith(pillow.EXIF_MARK) and len(pillow.EXIF_MARK) :]
        fields = exif_.parse(exif)
        if exif_.orientation(fields) != 1:  # the pixels are upright already
            fields[exif_.ORIENTATION] = Field(3, b"\x01\0")
            exif = exif_.build(fields, exif_.byte_order(exif) or "<")
    native = {key: info[key] for key in sorted(KEPT) if info.get(key)}
    if info.get("xmp"):
        native["xmp"] = info["xmp"]
    return Metadata(info.get("icc_profile") or None, exif or None, 1, "heif", native=native)


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if an HEIC cannot hold pictures of this kind."""
    needed("pillow_heif", "heif", UnwritableOutput, NAME)
    check_single(stack, NAME)
    check_16_bits(stack, NAME, "8 to 12")


def write(path: Path, image: Image) -> None:
    """Write an HEIC of quality 95, with the depth and color resolution it was read with."""
    pillow_heif = needed("pillow_heif", "heif", UnwritableOutput, NAME)
    samples = image.samples
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    colors = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2] if samples.ndim == 3 else 1]
    mode = colors + (";16" if samples.dtype == np.uint16 else "")
    metadata = image.metadata
    options: dict[str, Any] = {"chroma": 444}
    if metadata.format == "heif":
        options |= {key: value for key, value in metadata.native.items() if key in KEPT}
    bits = options.pop("bit_depth", 8)
    if samples.dtype == np.uint16:
        bits = bits if bits > 8 else 12
        samples = narrowed(samples, (1 << bits) - 1) << (16 - bits)
        options["bit_depth"] = bits
    if metadata.native.get("xmp"):
        options["xmp"] = metadata.native["xmp"]
    exif = exif_.with_orientation(metadata.exif, metadata.orientation)
    if exif is not None:
        options["exif"] = pillow.EXIF_MARK + exif
    if metadata.icc is not None:
        options["icc_profile"] = metadata.icc
    if metadata.orientation != 1:
        options["image_orientation"] = metadata.orientation
    height, width = samples.shape[:2]
    pixels = np.ascontiguousarray(samples).tobytes()
    pillow_heif.encode(mode, (width, height), pixels, path, quality=QUALITY, **options)
