"""JPEG: 8-bit gray and RGB (and CMYK as RGB), without loss of detail to compression."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Image, Metadata, Stack
from . import cmyk, exif as exif_
from .limits import check_8_bits, check_opaque, check_single

NAME = "JPEG"
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})

QUALITY = 95  # on the scale of libjpeg; a source of better quality keeps its own

APP0, APP1, APP2, APP14, COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xFE
SOS, EOI = 0xDA, 0xD9

JFIF_MARK = b"JFIF\0"
EXIF_MARK = b"Exif\0\0"
ICC_MARK = b"ICC_PROFILE\0"
SEGMENT_BYTES = 65533  # the most a segment holds
ICC_BYTES = SEGMENT_BYTES - len(ICC_MARK) - 2

# Untrue in a file of one picture encoded anew: thumbnails, further pictures, color transform.
DROPPED = ((APP0, b"JFXX\0"), (APP2, b"MPF\0"), (APP14, b"Adobe"))

MAX_SIDE = 65535

INCHES = {1: 1.0, 2: 2.54}  # JFIF density unit in inches: dots per inch, dots per centimeter


class Segment(NamedTuple):
    """A marker of the file and what follows it."""

    marker: int
    content: bytes


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a JPEG."""
    return header.startswith(b"\xff\xd8\xff")


def read(path: Path) -> Image:
    """Read a JPEG; CMYK is converted to RGB."""
    from PIL.JpegImagePlugin import JpegImageFile

    encoded = path.read_bytes()
    # The class itself, not PIL.Image.open: no limit on the number of pixels, only the first
    # of several pictures. Pillow raises on truncated files.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on EXIF that is not used here
        picture = JpegImageFile(io.BytesIO(encoded))
        if picture.mode not in ("L", "RGB", "CMYK"):
            raise UnreadableImage(
                f"a JPEG of {picture.mode} colors, which is not read; convert it to RGB"
            )
        samples = np.array(picture)
    axes = "YX" if picture.mode == "L" else "YXS"
    tables = list(picture.quantization.values())
    metadata = _metadata(encoded, tables)
    if picture.mode == "CMYK":  # which Pillow turns the right way round: Adobe inverts it
        samples, icc, note = cmyk.to_rgb(samples, metadata.icc)
        metadata = replace(metadata, icc=icc, note=note)
    return Image(samples, axes, metadata)


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a JPEG cannot hold pictures of this kind."""
    check_single(stack, NAME)
    check_8_bits(stack, NAME)
    check_opaque(stack, NAME)
    if max(stack.shape[:2]) > MAX_SIDE:
        raise UnwritableOutput(f"JPEG holds {MAX_SIDE} pixels a side; write a .png or .tif file")
    _header(stack.metadata, [])


def write(path: Path, image: Image) -> None:
    """Write a JPEG without chroma subsampling, of quality 95 or that of its source if better."""
    import PIL.Image

    samples = image.samples
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    native = image.metadata.native if image.metadata.format == "jpeg" else {}
    encoded = io.BytesIO()
    # Neither optimized nor progressive: Pillow then needs a buffer for the whole file, which
    # it makes too small for noisy pictures.
    PIL.Image.fromarray(np.ascontiguousarray(samples)).save(
        encoded,
        "JPEG",
        qtables=_finer_tables(native.get("tables", [])),
        subsampling=0,
    )
    bare = encoded.getvalue()
    jfif = [segment for segment in _segments(bare) if segment.marker == APP0]
    body = 2 + sum(4 + len(segment.content) for segment in jfif)
    header = _header(image.metadata, jfif)
    with path.open("wb") as file:
        file.write(b"\xff\xd8")
        file.writelines(map(_segment_bytes, header))
        file.write(memoryview(bare)[body:])


def exif_of(encoded: bytes) -> bytes | None:
    """The EXIF of an encoded JPEG, without decoding it."""
    return _metadata(encoded, []).exif


def _segments(encoded: bytes) -> Iterator[Segment]:
    """Split a file into the segments before its first scan."""
    offset = 2
    while offset + 4 <= len(encoded):
        mark, marker, length = struct.unpack_from(">BBH", encoded, offset)
        if mark != 0xFF or marker in (SOS, EOI):
            return
        if marker == 0xFF:  # fill byte
            offset += 1
        elif marker == 1 or 0xD0 <= marker <= 0xD8:  # stands alone
            offset += 2
        else:
            yield Segment(marker, encoded[offset + 4 : offset + 2 + length])
            offset += 2 + length


def _segment_bytes(segment: Segment) -> bytes:
    head = struct.pack(">BBH", 0xFF, segment.marker, len(segment.content) + 2)
    return head + segment.content


def _metadata(encoded: bytes, tables: list[Any]) -> Metadata:
    exif: bytes | None = None
    profile: list[tuple[int, bytes]] = []
    kept: list[Segment] = []
    native: dict[str, Any] = {"segments": kept, "tables": tables}
    for segment in _segments(encoded):
        marker, content = segment
        if marker == APP1 and content.startswith(EXIF_MARK) and exif is None:
            exif = content[len(EXIF_MARK) :]
        elif marker == APP2 and content.startswith(ICC_MARK):
            number = content[len(ICC_MARK)] if len(content) > len(ICC_MARK) else 0
            profile.append((number, content[len(ICC_MARK) + 2 :]))
        elif marker == COM or (APP0 <= marker <= 0xEF and not _is_dropped(segment)):
            kept.append(segment)
            if marker == APP0 and content.startswith(JFIF_MARK) and len(content) >= 12:
                unit, x, y = struct.unpack_from(">BHH", content, 7)
                if unit in INCHES and x and y:
                    native["dpi"] = (x * INCHES[unit], y * INCHES[unit])
    return Metadata(
        icc=b"".join(part for _, part in sorted(profile)) or None,
        exif=exif,
        orientation=exif_.orientation(exif_.parse(exif)) if exif else 1,
        format="jpeg",
        native=native,
    )


def _is_dropped(segment: Segment) -> bool:
    return any(segment.marker == m and segment.content.startswith(start) for m, start in DROPPED)


def _header(metadata: Metadata, default: list[Segment]) -> list[Segment]:
    """Return the segments to write in front: JFIF, EXIF, ICC, and the others of the source."""
    jfif = default
    others: list[Segment] = []
    if metadata.format == "jpeg":
        native = [Segment(*segment) for segment in metadata.native.get("segments", ())]
        jfif = [s for s in native if s.marker == APP0 and s.content.startswith(JFIF_MARK)]
        others = [segment for segment in native if segment not in jfif]
    elif "dpi" in metadata.native:
        x, y = (min(max(round(n), 1), 65535) for n in metadata.native["dpi"])
        jfif = [Segment(APP0, JFIF_MARK + struct.pack(">HBHHBB", 0x0101, 1, x, y, 0, 0))]
    exif = exif_.with_orientation(metadata.exif, metadata.orientation)
    if exif is None:
        return [*jfif, *_profile_segments(metadata.icc), *others]
    if len(exif) + len(EXIF_MARK) > SEGMENT_BYTES:
        raise UnwritableOutput(
            f"JPEG holds {SEGMENT_BYTES} bytes of EXIF, this picture has {len(exif)}; "
            "write a .png or .tif file"
        )
    first = Segment(APP1, EXIF_MARK + exif)
    return [*jfif, first, *_profile_segments(metadata.icc), *others]


def _profile_segments(icc: bytes | None) -> Iterator[Segment]:
    parts = [icc[i : i + ICC_BYTES] for i in range(0, len(icc), ICC_BYTES)] if icc else []
    if len(parts) > 255:
        raise UnwritableOutput("its ICC profile is too large for JPEG; write a .tif file")
    for number, part in enumerate(parts, start=1):
        yield Segment(APP2, ICC_MARK + bytes((number, len(parts))) + part)


def _finer_tables(tables: Iterable[Iterable[int]]) -> list[list[int]]:
    """Return luma and chroma tables of `QUALITY`, or those of the source where they are finer."""
    import PIL.Image
    from PIL.JpegImagePlugin import JpegImageFile

    sample = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(sample, "JPEG", quality=QUALITY)
    found = JpegImageFile(io.BytesIO(sample.getvalue())).quantization
    finer = [list(table) for _, table in sorted(found.items())]
    source = [list(table) for table in tables]
    for i, table in enumerate(finer):
        for other in source[i : i + 1] or source[-1:]:
            finer[i] = [min(a, b) for a, b in zip(table, other, strict=True)]
    return finer
