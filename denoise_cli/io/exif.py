"""EXIF as the directories of tags it is made of (TIFF 6.0, section 2; EXIF 2.32, section 4.6).

Values travel as bytes: nothing is decoded and encoded again, so that none changes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np

ORIENTATION = 274
EXIF_POINTER = 34665
GPS_POINTER = 34853
INTEROP_POINTER = 40965
POINTERS = frozenset({EXIF_POINTER, GPS_POINTER, INTEROP_POINTER})

# Bytes of one value, and of the words in it that a byte order applies to, by TIFF data type.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
BIG_SIZES = {16: 8, 17: 8, 18: 8}
WORDS = {**SIZES, **BIG_SIZES, 5: 4, 10: 4}

LONG, LONG8 = 4, 16


@dataclass(frozen=True)
class Field:
    """Value of a tag: its TIFF data type and little-endian bytes, or a directory pointed to."""

    kind: int
    value: bytes = b""
    children: Mapping[int, Field] | None = None

    @property
    def count(self) -> int:
        """Number of values."""
        return len(self.value) // (SIZES | BIG_SIZES)[self.kind]

    def ordered(self, order: str) -> bytes:
        """Value in byte order "<" or ">"."""
        return _swap(self.value, self.kind) if order == ">" else self.value

    def numbers(self) -> list[Any]:
        """Value as a list of numbers; rationals as (numerator, denominator)."""
        letters = {3: "H", 4: "I", 5: "I", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I"}
        letter = (letters | {16: "Q", 17: "q", 18: "Q"}).get(self.kind, "B")
        flat = list(struct.unpack(f"<{len(self.value) // WORDS[self.kind]}{letter}", self.value))
        return list(zip(flat[::2], flat[1::2], strict=True)) if self.kind in (5, 10) else flat


def parse(exif: bytes) -> dict[int, Field]:
    """Read the first directory of EXIF bytes, with the directories it points to.

    Damaged fields are left out; bytes that are no EXIF give an empty directory.
    """
    order = byte_order(exif)
    if order is None:
        return {}
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    return read_directory(io.BytesIO(exif), offset, order)


def build(directory: Mapping[int, Field], order: str = "<") -> bytes:
    """Make EXIF bytes of a directory: the inverse of `parse`."""
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, 8) + directory_bytes(directory, order, 8)


def byte_order(exif: bytes) -> Literal["<", ">"] | None:
    """Return "<" or ">", or None if the bytes are no EXIF."""
    if len(exif) < 8:
        return None
    if exif.startswith(b"II*\0"):
        return "<"
    return ">" if exif.startswith(b"MM\0*") else None


def orientation(directory: Mapping[int, Field]) -> int:
    """Return the orientation of a directory, 1 if there is none or it means nothing."""
    field = directory.get(ORIENTATION)
    numbers = field.numbers() if field else []
    return numbers[0] if numbers and numbers[0] in range(1, 9) else 1


def with_orientation(exif: bytes | None, value: int) -> bytes | None:
    """Return `exif` unchanged, or made up of the orientation where that would get lost."""
    if exif is not None or value == 1:
        return exif
    return build({ORIENTATION: Field(3, struct.pack("<H", value))})


def read_directory(
    stream: BinaryIO, offset: int, order: str, *, big: bool = False, depth: int = 0
) -> dict[int, Field]:
    """Read the directory at `offset` of a TIFF (`big`: BigTIFF) structure.

    Fields of unknown type or reaching beyond the end are left out.
    """
    head, entry, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(offset)
    raw = stream.read(struct.calcsize(order + head))
    if len(raw) < struct.calcsize(order + head):
        return {}
    (count,) = struct.unpack(order + head, raw)
    step = struct.calcsize(order + entry)
    entries = stream.read(min(count, 65535) * step)
    directory: dict[int, Field] = {}
    for start in range(0, len(entries) - step + 1, step):
        code, kind, number, value = struct.unpack_from(order + entry, entries, start)
        length = number * (SIZES | BIG_SIZES).get(kind, 0)
        if length > inline:
            (where,) = struct.unpack(order + ("Q" if big else "I"), value)
            if where + length > size:
                continue
            stream.seek(where)
            value = stream.read(length)
        if length == 0:
            continue
        value = value[:length]
        field = Field(kind, _swap(value, kind) if order == ">" else value)
        if code in POINTERS:
            if depth == 2 or not field.numbers():  # a directory that points to itself
                continue
            children = read_directory(stream, field.numbers()[0], order, big=big, depth=depth + 1)
            field = Field(LONG, children=children)
            if not children:
                continue
        directory[code] = field
    return directory


def value_offset(stream: BinaryIO, offset: int, code: int, order: str, *, big: bool = False) -> int:
    """Return where the value of tag `code` stands in the directory at `offset`."""
    head, entry, before = ("Q", "H18x", 12) if big else ("H", "H10x", 8)
    stream.seek(offset)
    (count,) = struct.unpack(order + head, stream.read(struct.calcsize(order + head)))
    entries = stream.read(count * struct.calcsize(order + entry))
    codes = [code for (code,) in struct.iter_unpack(order + entry, entries)]
    start = offset + struct.calcsize(order + head)
    return start + codes.index(code) * struct.calcsize(order + entry) + before


def directory_bytes(
    directory: Mapping[int, Field], order: str, base: int, *, big: bool = False
) -> bytes:
    """Lay out a directory to stand at the even offset `base` of a TIFF (`big`: BigTIFF) file."""
    head, entry, inline, pointer = ("Q", "HHQ", 8, "Q") if big else ("H", "HHI", 4, "I")
    step = struct.calcsize(order + entry) + inline
    start = struct.calcsize(order + head) + len(directory) * step + inline
    table = struct.pack(order + head, len(directory))
    tail = b""
    for code in sorted(directory):
        field = directory[code]
        kind, count = field.kind, field.count
        if field.children is None:
            value = field.ordered(order)
        else:
            kind, count = (LONG8 if big else LONG), 1
            where = base + start + len(tail)
            tail += directory_bytes(field.children, order, where, big=big)
            value = struct.pack(order + pointer, where)
        if len(value) > inline:
            where = base + start + len(tail)
            tail += value + b"\0" * (len(value) % 2)
            value = struct.pack(order + pointer, where)
        table += struct.pack(order + entry, code, kind, count) + value.ljust(inline, b"\0")
    return table + b"\0" * inline + tail


def _swap(value: bytes, kind: int) -> bytes:
    word = WORDS[kind]
    return value if word == 1 else np.frombuffer(value, f"u{word}").byteswap().tobytes()
