"""Small pictures, metadata and files for the tests of reading and writing."""

import io as std_io
import struct
import zlib

import numpy as np
from PIL import Image as Pillow

from denoise_cli import io
from denoise_cli.image import Image, Metadata
from denoise_cli.io import exif

LAYOUTS = {
    "gray": ((21, 34), "YX"),
    "gray-alpha": ((21, 34, 2), "YXS"),
    "rgb": ((21, 34, 3), "YXS"),
    "rgba": ((21, 34, 4), "YXS"),
    "one-pixel": ((1, 1, 3), "YXS"),
    "one-row": ((1, 9), "YX"),
}
INTEGERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32")
DTYPES = {
    ".png": ("uint8", "uint16"),
    ".tif": (*INTEGERS, "float16", "float32", "float64"),
}
ICC = b"\0\0\2\x0cprofile" + bytes(range(256)) * 300  # more than one segment of a JPEG


def picture(layout="rgb", dtype="uint8", **metadata):
    shape, axes = LAYOUTS[layout]
    rng = np.random.default_rng(2)
    if np.dtype(dtype).kind == "f":
        samples = rng.normal(0, 3, shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        samples = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return Image(samples, axes, Metadata(**metadata))


def some_exif(order="<", orientation=6):
    """EXIF with texts, numbers, rationals, a thumbnail pointer, and sub-directories."""

    def field(kind, layout, *values):
        return exif.Field(kind, struct.pack("<" + layout, *values))

    camera = {
        33434: field(5, "II", 1, 250),
        34855: field(3, "H", 1600),
        37380: field(10, "ii", -1, 3),
        37500: exif.Field(7, bytes(range(200))),
        exif.INTEROP_POINTER: exif.Field(4, children={1: exif.Field(2, b"R98\0")}),
    }
    place = {1: exif.Field(2, b"N\0"), 2: field(5, "6I", 48, 1, 8, 1, 3033, 100)}
    return exif.build(
        {
            271: exif.Field(2, b"Maker\0"),
            272: exif.Field(2, b"Model 5\0"),
            274: field(3, "H", orientation),
            282: field(5, "II", 300, 1),
            283: field(5, "II", 3001, 10),
            296: field(3, "H", 2),
            306: exif.Field(2, b"2024:02:29 12:00:00\0"),
            exif.EXIF_POINTER: exif.Field(4, children=camera),
            exif.GPS_POINTER: exif.Field(4, children=place),
        },
        order,
    )


def assert_same(found, expected):
    assert found.axes == expected.axes
    assert found.samples.dtype == expected.samples.dtype
    np.testing.assert_array_equal(found.samples, expected.samples)


def round_trip(tmp_path, image, suffix):
    path = tmp_path / f"out{suffix}"
    io.write(path, image, overwrite=True)
    return io.read(path)


def chunk(name, content):
    crc = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def png_bytes(width, height, depth, color_type, rows, before=(), after=(), interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced)
    chunks = [chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(rows)), *after]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


SMALL_PNGS = {
    "gray 1 bit": (png_bytes(8, 1, 1, 0, b"\0\xa5"), [[255, 0, 255, 0, 0, 255, 0, 255]]),
    "gray 2 bits": (png_bytes(4, 1, 2, 0, b"\0\x1b"), [[0, 85, 170, 255]]),
    "gray 4 bits": (png_bytes(3, 1, 4, 0, b"\0\x1f\xa0"), [[17, 255, 170]]),
    "palette": (
        png_bytes(2, 1, 8, 3, b"\0\1\0", [chunk(b"PLTE", b"\1\2\3\4\5\6")]),
        [[[4, 5, 6], [1, 2, 3]]],
    ),
    "palette, 1 bit, alpha": (
        png_bytes(2, 1, 1, 3, b"\0\x40", [chunk(b"PLTE", b"\1\2\3\4\5\6"), chunk(b"tRNS", b"\7")]),
        [[[1, 2, 3, 7], [4, 5, 6, 255]]],
    ),
    "transparent gray": (
        png_bytes(2, 1, 8, 0, b"\0\1\2", [chunk(b"tRNS", b"\0\2")]),
        [[[1, 255], [2, 0]]],
    ),
    "transparent RGB": (
        png_bytes(2, 1, 8, 2, b"\0\1\2\3\4\5\6", [chunk(b"tRNS", b"\0\4\0\5\0\6")]),
        [[[1, 2, 3, 255], [4, 5, 6, 0]]],
    ),
}


def interlaced_rows(samples):
    """Filter-less Adam7 rows of big-endian samples."""
    rows = b""
    coarse = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
    fine = [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    for y, x, down, right in coarse + fine:
        part = samples[y::down, x::right]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return rows


def jpeg_bytes(mode="RGB", **options):
    stream = std_io.BytesIO()
    y, x = np.mgrid[:32, :48]
    picture = Pillow.fromarray((y * 3 + x * 2).astype(np.uint8)).convert(mode)
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()
