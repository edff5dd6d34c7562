"""PNG: 8 and 16 bits, gray and RGB with and without alpha, exact (PNG specification, 3rd ed.)."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UnreadableImage
from ..image import Array, Image, Metadata, Stack
from . import exif as exif_, pillow
from .limits import check_16_bits, check_single

NAME = "PNG"
SUFFIXES = frozenset({".png", ".apng"})

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Chunks that stay true whatever the pixels are; bKGD, hIST, PLTE, sBIT and tRNS do not.
# Unknown chunks follow their own safe-to-copy bit, the case of the fourth letter.
KEPT = frozenset(
    {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"tIME"}
    | {b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"}
)
DROPPED = frozenset({b"bKGD", b"hIST", b"sBIT", b"tRNS"})

# Adam7 passes: first row, first column, row step, column step.
PASSES = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)

SAMPLES_OF_COLOR_TYPE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

INCH = 0.0254  # meters


class Chunk(NamedTuple):
    """A piece of the file: its four-letter name and its content."""

    name: bytes
    content: bytes


class Header(NamedTuple):
    """Content of the IHDR chunk."""

    width: int
    height: int
    depth: int
    color_type: int
    compression: int
    filtering: int
    interlaced: int

    def pack(self) -> bytes:
        """Make the content of an IHDR chunk."""
        return struct.pack(">IIBBBBB", *self)


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a PNG."""
    return header.startswith(SIGNATURE)


def read(path: Path) -> Image:
    """Read a PNG; palettes become RGB, 1 to 4 bits become 8, transparency becomes alpha."""
    chunks = list(_chunks(path.read_bytes()))
    if not chunks or chunks[0].name != b"IHDR" or len(chunks[0].content) != 13:
        raise UnreadableImage("damaged PNG (no header); copy or export it again")
    names = [chunk.name for chunk in chunks]
    if b"IDAT" not in names:
        raise UnreadableImage("damaged PNG (no pixels); copy or export it again")
    header = Header._make(struct.unpack(">IIBBBBB", chunks[0].content))
    if b"acTL" in names:
        return _read_animation(path, header, chunks)
    samples = _read_passes(header, chunks) if header.interlaced else _decode(header, chunks)
    axes = "YX" if samples.ndim == 2 else "YXS"
    return Image(samples, axes, _metadata(chunks))


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a PNG cannot hold pictures of this kind."""
    if stack.axes in ("TYX", "TYXS"):
        pillow.check(stack, "an animated PNG", animated=True)
        return
    check_single(stack, NAME)
    check_16_bits(stack, NAME, "8 or 16")


def write(path: Path, image: Image) -> None:
    """Write a PNG; an Image read from a PNG keeps its ancillary chunks byte for byte."""
    import imagecodecs

    if image.axes in ("TYX", "TYXS"):
        encoded = _encode_animation(image)
    else:
        # A fresh copy: the encoder refuses the odd strides that a 1x1 view may have.
        samples = image.samples
        if samples.ndim == 3 and samples.shape[2] == 1:
            samples = samples[:, :, 0]
        native = samples.dtype.newbyteorder("=")
        encoded = bytes(imagecodecs.png_encode(np.array(samples, native, order="C")))
    before, after = _ancillary(image.metadata)
    with path.open("wb") as file:
        file.write(SIGNATURE)
        for chunk in _chunks(bytes(encoded)):
            if chunk.name == b"IEND":
                file.writelines(map(_chunk_bytes, after))
            file.write(_chunk_bytes(chunk))
            if chunk.name == b"IHDR":
                file.writelines(map(_chunk_bytes, before))


def _read_animation(path: Path, header: Header, chunks: Iterable[Chunk]) -> Image:
    """Read an animation, its frames along T as they are shown."""
    from PIL.PngImagePlugin import PngImageFile

    if header.depth == 16:
        raise UnreadableImage("an animated PNG of 16 bits, which is not read; export its frames")
    with pillow.opened(PngImageFile, path) as picture:
        found = pillow.read(picture, "png")
    metadata = _metadata(chunks)
    native = {**metadata.native, "animation": found.metadata.native.get("animation", {})}
    return replace(found, metadata=replace(metadata, native=native))


def _encode_animation(image: Image) -> bytes:
    """Encode frames along T; chunks of metadata are added by `write`."""
    first, *others = pillow.pictures(image)
    timing = pillow.save_options(replace(image, metadata=Metadata(native=image.metadata.native)))
    timing.pop("xmp", None)
    encoded = io.BytesIO()
    first.save(encoded, "PNG", save_all=True, append_images=others, **timing)
    return encoded.getvalue()


def _chunks(encoded: bytes) -> Iterator[Chunk]:
    """Split a file into chunks, up to and with IEND, checking that each is whole."""
    offset = len(SIGNATURE)
    while True:
        if offset + 12 > len(encoded):
            raise UnreadableImage("truncated PNG; copy or export it again")
        length, name = struct.unpack_from(">I4s", encoded, offset)
        end = offset + 12 + length
        if end > len(encoded):
            raise UnreadableImage("truncated PNG; copy or export it again")
        body = memoryview(encoded)[offset + 4 : end - 4]
        if zlib.crc32(body) != struct.unpack_from(">I", encoded, end - 4)[0]:
            label = name.decode("latin-1") if name.isalpha() else repr(name)
            raise UnreadableImage(
                f"damaged PNG (wrong check sum of its {label} chunk); copy or export it again"
            )
        yield Chunk(name, bytes(body[4:]))
        if name == b"IEND":
            return
        offset = end


def _chunk_bytes(chunk: Chunk) -> bytes:
    crc = zlib.crc32(chunk.content, zlib.crc32(chunk.name))
    return b"".join(
        (struct.pack(">I", len(chunk.content)), chunk.name, chunk.content, struct.pack(">I", crc))
    )


def _decode(header: Header, chunks: Iterable[Chunk]) -> Array:
    """Decode a picture that is not interlaced."""
    import imagecodecs

    # Only what makes up the pixels: libpng writes its opinion of the rest to stderr.
    needed = [chunk for chunk in chunks if chunk.name in (b"PLTE", b"tRNS", b"IDAT")]
    parts = [Chunk(b"IHDR", header.pack()), *needed, Chunk(b"IEND", b"")]
    samples: Array = imagecodecs.png_decode(SIGNATURE + b"".join(map(_chunk_bytes, parts)))
    return samples


def _read_passes(header: Header, chunks: Iterable[Chunk]) -> Array:
    """Decode the seven passes of an interlaced picture as the small pictures that they are."""
    packed = b"".join(chunk.content for chunk in chunks if chunk.name == b"IDAT")
    rows = zlib.decompressobj().decompress(packed)
    colors = [chunk for chunk in chunks if chunk.name in (b"PLTE", b"tRNS")]
    bits = SAMPLES_OF_COLOR_TYPE.get(header.color_type, 1) * header.depth
    samples: Array = np.empty(0)
    offset = 0
    for top, left, down, right in PASSES:
        height = math.ceil((header.height - top) / down)
        width = math.ceil((header.width - left) / right)
        if height <= 0 or width <= 0:
            continue
        size = height * (1 + math.ceil(width * bits / 8))
        if offset + size > len(rows):
            raise UnreadableImage("truncated PNG; copy or export it again")
        pixels = Chunk(b"IDAT", zlib.compress(rows[offset : offset + size], 1))
        small = header._replace(width=width, height=height, interlaced=0)
        part = _decode(small, [*colors, pixels])
        if offset == 0:
            samples = np.empty((header.height, header.width, *part.shape[2:]), part.dtype)
        samples[top::down, left::right] = part
        offset += size
    return samples


def _metadata(chunks: Iterable[Chunk]) -> Metadata:
    before: list[Chunk] = []
    after: list[Chunk] = []
    kept = before
    for chunk in chunks:
        if chunk.name == b"IDAT":
            kept = after
        safe_to_copy = chunk.name[:1].islower() and chunk.name[3:4].islower()
        if chunk.name in KEPT or (safe_to_copy and chunk.name not in DROPPED):
            kept.append(chunk)
    found = {chunk.name: chunk.content for chunk in before + after}
    native: dict[str, object] = {"before": before, "after": after}
    pixels = found.get(b"pHYs", b"")
    if len(pixels) == 9 and pixels[8] == 1:
        native["dpi"] = tuple(n * INCH for n in struct.unpack(">II", pixels[:8]))
    exif = found.get(b"eXIf")
    return Metadata(
        icc=_profile(found[b"iCCP"]) if b"iCCP" in found else None,
        exif=exif,
        orientation=exif_.orientation(exif_.parse(exif)) if exif else 1,
        format="png",
        native=native,
    )


def _profile(content: bytes) -> bytes | None:
    """Return the ICC profile of an iCCP chunk, None if it is damaged."""
    _, _, packed = content.partition(b"\0")
    try:
        return zlib.decompress(packed[1:])
    except zlib.error:
        return None


def _ancillary(metadata: Metadata) -> tuple[list[Chunk], list[Chunk]]:
    """Return the chunks to write before and after the pixels."""
    before: list[Chunk] = []
    after: list[Chunk] = []
    if metadata.format == "png":
        before = [Chunk(*chunk) for chunk in metadata.native.get("before", ())]
        after = [Chunk(*chunk) for chunk in metadata.native.get("after", ())]
    elif "dpi" in metadata.native:
        x, y = (round(n / INCH) for n in metadata.native["dpi"])
        before.append(Chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if not any(c.name == b"iCCP" and _profile(c.content) == metadata.icc for c in before):
        before = [chunk for chunk in before if chunk.name != b"iCCP"]
        if metadata.icc is not None:
            content = b"ICC profile\0\0" + zlib.compress(metadata.icc)
            before.insert(0, Chunk(b"iCCP", content))
    exif = exif_.with_orientation(metadata.exif, metadata.orientation)
    kept = [chunk for chunk in before + after if chunk.name == b"eXIf" and chunk.content == exif]
    if not kept:
        before = [chunk for chunk in before if chunk.name != b"eXIf"]
        after = [chunk for chunk in after if chunk.name != b"eXIf"]
        if exif is not None:
            before.append(Chunk(b"eXIf", exif))
    return before, after
