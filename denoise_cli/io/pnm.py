"""PBM, PGM, PPM, PAM and PFM: 1 to 16 bits and float, gray and RGB with and without alpha.

By the manual pages of Netpbm (pbm, pgm, ppm, pam, pfm).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Array, Image, Metadata, Stack
from .depth import narrowed, widened
from .limits import check_bare, check_single, sample_count

NAME = "PNM"
SUFFIXES = frozenset({".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm"})

COLORS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
TEXT = (b"P1", b"P2", b"P3")
BITS = (b"P1", b"P4")
FLOATS = (b"Pf", b"PF")
MARKS = frozenset({*COLORS, b"P7"})
TUPLES = {1: b"GRAYSCALE", 2: b"GRAYSCALE_ALPHA", 3: b"RGB", 4: b"RGB_ALPHA"}

HOLDS = {".pgm": (1,), ".ppm": (3,), ".pfm": (1, 3), ".pam": (1, 2, 3, 4), ".pnm": (1, 3)}
UNWRITTEN = {".pbm": "PBM holds black and white only; write a .pgm file"}

TOKEN = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")


class Header(NamedTuple):
    """What stands in front of the samples, and how many bytes of the file it takes."""

    mark: bytes
    width: int
    height: int
    colors: int
    largest: float  # of PFM the scale, negative for little-endian
    length: int


def matches(header: bytes) -> bool:
    """Whether a file that begins so is one of these."""
    return header[:2] in MARKS and header[2:3].isspace()


def read(path: Path) -> Image:
    """Read a picture; samples up to less than 255 or 65535 are widened to 8 or 16 bits."""
    encoded = path.read_bytes()
    header = _pam_header(encoded) if encoded.startswith(b"P7") else _header(encoded)
    samples = _floats(encoded, header) if header.mark in FLOATS else _integers(encoded, header)
    shape = (header.height, header.width)
    shaped = samples.reshape(shape if header.colors == 1 else (*shape, header.colors))
    if header.mark in FLOATS:
        shaped = np.ascontiguousarray(shaped[::-1])  # its rows go from bottom to top
    native = {"largest": header.largest, "mark": header.mark}
    axes = "YX" if header.colors == 1 else "YXS"
    return Image(shaped, axes, Metadata(format="pnm", native=native))


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a file of this suffix cannot hold pictures of this kind."""
    check_single(stack, NAME)
    wanted = ("float32",) if suffix == ".pfm" else ("uint8", "uint16")
    if stack.dtype.name not in wanted:
        raise UnwritableOutput(
            f"{suffix} holds {' or '.join(wanted)} samples, not {stack.dtype}; write a .tif file"
        )
    colors = sample_count(stack)
    if colors not in HOLDS[suffix]:
        what = {1: "gray", 2: "gray and alpha", 3: "RGB", 4: "RGB and alpha"}[colors]
        raise UnwritableOutput(f"{suffix} does not hold {what}; write a .pam or .tif file")
    check_bare(stack, suffix)


def write(path: Path, image: Image) -> None:
    """Write the binary form that the suffix names; integers on the range they were read with."""
    samples = image.samples
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[:, :, 0]
    native = image.metadata.native if image.metadata.format == "pnm" else {}
    height, width = samples.shape[:2]
    colors = samples.shape[2] if samples.ndim == 3 else 1
    if samples.dtype.kind == "f":
        scale = abs(native.get("largest", 1.0)) if native.get("mark") in FLOATS else 1.0
        head = f"{'PF' if colors == 3 else 'Pf'}\n{width} {height}\n{-scale!r}\n"
        path.write_bytes(head.encode() + samples[::-1].astype("<f4").tobytes())
        return
    top = 255 if samples.dtype == np.uint8 else 65535
    largest = int(native.get("largest", top)) if native.get("mark") not in FLOATS else top
    if (255 if largest <= 255 else 65535) != top:  # of another type than it was read as
        largest = top
    stored = narrowed(samples, largest).astype(">u2" if top > 255 else "u1")
    if colors in (2, 4) or path.suffix.lower() == ".pam":
        kind = TUPLES[colors].decode()
        head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {colors}\nMAXVAL {largest}\n"
        head += f"TUPLTYPE {kind}\nENDHDR\n"
    else:
        head = f"{'P6' if colors == 3 else 'P5'}\n{width} {height}\n{largest}\n"
    path.write_bytes(head.encode() + stored.tobytes())


def _header(encoded: bytes) -> Header:
    mark, at, found = encoded[:2], 2, []
    for _ in range(2 if mark in BITS else 3):
        token = TOKEN.match(encoded, at)
        if token is None:
            raise UnreadableImage("damaged PNM (no whole header); export it again")
        found.append(token[1])
        at = token.end()
    largest = 1.0 if mark in BITS else float(found[2])
    # One white space ends the header, whatever the samples begin with.
    return _checked(Header(mark, int(found[0]), int(found[1]), COLORS[mark], largest, at + 1))


def _pam_header(encoded: bytes) -> Header:
    end = encoded.find(b"ENDHDR\n")
    lines = [line.split(None, 1) for line in encoded[:end].splitlines() if line[:1] != b"#"]
    found = {line[0]: line[1] for line in lines if len(line) == 2}
    width, height, depth, largest = (
        int(found.get(key, b"0")) for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    )
    if end < 0 or depth not in TUPLES:
        raise UnreadableImage("a PAM of unknown samples, which is not read; export 1 to 4 of them")
    return _checked(Header(b"P7", width, height, depth, largest, end + len(b"ENDHDR\n")))


def _checked(header: Header) -> Header:
    integers = header.mark not in FLOATS
    if integers and not 1 <= header.largest <= 65535:
        raise UnreadableImage(f"damaged PNM (largest value {header.largest:g}); export it again")
    if header.width <= 0 or header.height <= 0:
        raise UnreadableImage("has no pixels; export it again")
    return header


def _integers(encoded: bytes, header: Header) -> Array:
    count = header.width * header.height * header.colors
    largest = int(header.largest)
    if header.mark in BITS:
        return np.uint8(255) - 255 * _bits(encoded, header)  # 1 is black
    if header.mark in TEXT:
        text = re.sub(rb"#[^\n]*", b"", encoded[header.length - 1 :]).split()
        samples = np.array(text[:count], np.uint32)
    else:
        dtype = np.dtype(">u2" if largest > 255 else "u1")
        rest = encoded[header.length : header.length + count * dtype.itemsize]
        samples = np.frombuffer(rest[: len(rest) // dtype.itemsize * dtype.itemsize], dtype)
    if samples.size < count:
        raise UnreadableImage("truncated PNM; copy or export it again")
    if samples.max() > largest:
        raise UnreadableImage(
            f"damaged PNM (a sample above its largest, {largest}); export it again"
        )
    return widened(samples, largest)


def _bits(encoded: bytes, header: Header) -> Array:
    """The 0 and 1 of a PBM, packed in rows of whole bytes or written as text."""
    if header.mark == b"P1":
        text = re.sub(rb"#[^\n]*|\s", b"", encoded[header.length - 1 :])
        bits = np.frombuffer(text, np.uint8)[: header.width * header.height] - ord("0")
    else:
        row = -(-header.width // 8)
        packed = np.frombuffer(encoded, np.uint8, offset=header.length)[: row * header.height]
        if packed.size < row * header.height:
            raise UnreadableImage("truncated PNM; copy or export it again")
        bits = np.unpackbits(packed.reshape(header.height, row), axis=1)[:, : header.width].ravel()
    if bits.size < header.width * header.height or bits.max() > 1:
        raise UnreadableImage("truncated or damaged PNM; copy or export it again")
    return bits


def _floats(encoded: bytes, header: Header) -> Array:
    count = header.width * header.height * header.colors
    rest = encoded[header.length : header.length + 4 * count]
    if len(rest) < 4 * count:
        raise UnreadableImage("truncated PFM; copy or export it again")
    return np.frombuffer(rest, "<f4" if header.largest < 0 else ">f4").astype(np.float32)
