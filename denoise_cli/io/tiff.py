"""TIFF: integers and floats, gray, RGB, channels and stacks, with the tags of the source."""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Array, Image, Metadata
from . import exif as exif_
from .exif import Field

if TYPE_CHECKING:
    import tifffile

NAME = "TIFF"
SUFFIXES = frozenset({".tif", ".tiff"})

DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, SEPARATED, YCBCR, CFA = 0, 1, 2, 3, 4, 5, 6, 32803
COLORS = {MASK: "mask", SEPARATED: "CMYK", CFA: "raw mosaic", 34892: "linear raw"}
COLORS |= {8: "Lab", 9: "Lab", 10: "Lab", 32844: "LogL", 32845: "LogLuv", YCBCR: "YCbCr"}

NO_COMPRESSION, DEFLATE = 1, 8
# LZW, deflate, PackBits, LZMA, Zstandard. Lossy ones are not repeated: deflate takes their place.
LOSSLESS = frozenset({1, 5, 8, 32773, 34925, 50000})
JPEG_COMPRESSIONS = frozenset({6, 7, 33007, 34892})
UNPREDICTED = frozenset({1, 32773})  # compressions without a predictor

DESCRIPTION, ICC, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 270, 34675, 282, 283, 296
INCHES = {2: 1.0, 3: 2.54}  # resolution unit in inches: per inch, per centimeter

CLASSIC_BYTES = 2**32 - 2**25  # beyond, BigTIFF; the margin is for the tags

DNG_VERSION = 50706
# These begin like a TIFF, but as one they show their preview only.
RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".pef", ".sr2", ".srw")

# Tags on how the samples lie in the file, or on their values: written by tifffile, or untrue
# once the samples have changed.
STRUCTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284}
    | {288, 289, 290, 291, 292, 293, 317, 318, 319, 320, 322, 323, 324, 325, 330, 338, 339, 340}
    | {341, 347, 400, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532}
    | {32996, 32997, 32998}
)
# Tags that hold offsets into the file or the original pixels: they would mislead in another one.
BOUND = frozenset({33628, 33629, 33630, 33631, 34412, 37724, 50740, 65420})
# What EXIF stores in its first directory (EXIF 2.32, table 4), beside its pointers.
EXIF_TAGS = frozenset({270, 271, 272, 274, 282, 283, 296, 305, 306, 315, 33432})
EXIF_TAGS |= frozenset({18246, 18249, 40091, 40092, 40093, 40094, 40095})
EXIF_TAGS |= frozenset({exif_.EXIF_POINTER, exif_.GPS_POINTER})
RESOLUTION_TAGS = frozenset({X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT})


@dataclass(frozen=True)
class Layout:
    """How the samples of a file are stored, to store others the same way.

    `tags` are those of the first page that are not EXIF. `described` is the shape and dtype that
    its description (of OME, ImageJ or tifffile) stands for.
    """

    order: Literal["<", ">"] = "<"
    big: bool = False
    photometric: int | None = None
    planar: bool = False
    extra: tuple[int, ...] = ()
    compression: int = DEFLATE
    predictor: bool = True
    tile: tuple[int, ...] | None = None
    rows: int | None = None
    tags: Mapping[int, Field] = field(default_factory=dict)
    described: tuple[str, tuple[int, ...], str] | None = None


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a TIFF or BigTIFF."""
    tiff = header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return tiff and header[128:132] != b"DICM"  # DICOM may begin like a TIFF


def read(path: Path) -> Image:
    """Read a TIFF of one picture, or a stack of equal ones as planes."""
    import tifffile

    with _quiet() as complaints, tifffile.TiffFile(path) as tif:
        series = _only_series(tif)
        page = series.keyframe
        _check_layout(page)
        _check_extent(series, path.stat().st_size)
        samples = series.asarray()
        if complaints:
            raise UnreadableImage(
                f"damaged or truncated TIFF ({complaints[0]}); copy or export it again"
            )
        samples, axes = _arranged(samples, series.axes, page)
        tags = _tags(tif)
        layout = _layout(tif, series, page, (axes, samples.shape, samples.dtype.name))
    return Image(samples, axes, _metadata(tags, layout))


def write(path: Path, image: Image) -> None:
    """Write a TIFF; an Image read from a TIFF keeps its tags, byte order and compression."""
    import tifffile

    metadata = image.metadata
    layout = metadata.native.get("layout") if metadata.format == "tiff" else None
    exif = exif_.parse(metadata.exif) if metadata.exif else {}
    if layout is None:
        layout = Layout(order=exif_.byte_order(metadata.exif or b"") or "<")
    tags = _written_tags(image, layout, exif)
    samples, options = _options(image, layout)
    resolution, unit = _resolution({**layout.tags, **exif}, metadata)
    children = {
        code: tags.pop(code) for code in (exif_.EXIF_POINTER, exif_.GPS_POINTER) if code in tags
    }
    description = tags.pop(DESCRIPTION, None)
    extra: list[Any] = [
        (code, tag.kind, tag.count, tag.ordered(layout.order), True)
        for code, tag in sorted(tags.items())
    ]
    # By name, since tifffile leaves pointers given by number out; patched below.
    names = {exif_.EXIF_POINTER: "ExifTag", exif_.GPS_POINTER: "GPSTag"}
    extra += [(names[code], exif_.LONG, 1, 0, True) for code in children]
    with _quiet():
        big = layout.big or samples.nbytes > CLASSIC_BYTES
        with tifffile.TiffWriter(path, bigtiff=big, byteorder=layout.order, ome=False) as tif:
            tif.write(
                samples,
                description=description.value if description else None,
                software=False,
                resolution=resolution,
                resolutionunit=unit,
                extratags=extra,
                **options,
            )
        _finish(path, children, layout.order)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep the log of tifffile off stderr; collect its errors, but not those about a mere tag."""
    complaints: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if record.levelno >= logging.ERROR and "TiffTag" not in text:
                complaints.append(" ".join(text.partition("> ")[2].split()) or text)

    logger = logging.getLogger("tifffile")
    handler, propagate = Collector(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield complaints
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _only_series(tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the series of full-size pages, if there is one only."""
    first: Any = tif.pages[0]
    if DNG_VERSION in first.tags or tif.filehandle.path.lower().endswith(RAW_SUFFIXES):
        raise UnreadableImage("a camera raw file, which is not read as TIFF; develop it first")
    series = [s for s in tif.series if not s.keyframe.is_reduced]
    if not series:
        raise UnreadableImage("a TIFF without full-size pictures; export it again")
    if len(series) > 1:
        raise UnreadableImage(
            f"holds {len(series)} pictures of different kinds, which are not read; split it"
        )
    if series[0].is_multifile:
        raise UnreadableImage("one of several files of an OME-TIFF; join them into one first")
    return series[0]


def _check_layout(page: Any) -> None:
    """Raise UnreadableImage for samples that are no gray, RGB or channels."""
    name = str(page.dtype)
    if name != "bool" and name not in DTYPES:
        kind = "complex numbers" if "complex" in name else f"samples of type {name}"
        raise UnreadableImage(f"holds {kind}, which are not read; convert them to float32")
    if page.imagedepth > 1:
        raise UnreadableImage("holds volumes in its pages, which are not read; export slices")
    photometric = int(page.photometric)
    rgb = photometric == YCBCR and int(page.compression) in JPEG_COMPRESSIONS
    if not rgb and photometric not in (MINISWHITE, MINISBLACK, RGB, PALETTE):
        color = COLORS.get(photometric, f"photometric {photometric}")
        raise UnreadableImage(f"a TIFF of {color} samples, which is not read; convert it to RGB")
    if page.samplesperpixel > 4:
        raise UnreadableImage(
            f"has {page.samplesperpixel} samples per pixel, more than RGB and alpha; "
            "save its channels as pages"
        )
    if photometric in (RGB, YCBCR) and page.samplesperpixel < 3:
        raise UnreadableImage("damaged TIFF (RGB of fewer than 3 samples); export it again")


def _check_extent(series: tifffile.TiffPageSeries, size: int) -> None:
    """Raise UnreadableImage if samples reach beyond the end of the file.

    tifffile would fill them up with zeros.
    """
    ends = [0 if series.dataoffset is None else series.dataoffset + series.nbytes]
    for page in series.pages:
        if page is None or not page.databytecounts:
            raise UnreadableImage("damaged TIFF (a page without pixels); export it again")
        ends += [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if max(ends) > size:
        raise UnreadableImage("truncated TIFF; copy or export it again")


def _arranged(samples: Array, axes: str, page: Any) -> tuple[Array, str]:
    """Return samples with color last, of at least 8 bits, and their axes."""
    if int(page.photometric) == PALETTE and page.colormap is not None:
        colors = page.colormap  # (3, entries), 16 bits
        if np.array_equal(colors, colors // 257 * 257):
            colors = (colors // 257).astype(np.uint8)
        samples, axes = np.moveaxis(colors[:, samples], 0, -1), axes + "S"
    elif samples.dtype == bool or page.bitspersample in (2, 4):
        top = (1 << page.bitspersample) - 1
        samples = samples.astype(np.uint8) * np.uint8(255 // top)
    if "S" in axes:
        samples = np.moveaxis(samples, axes.index("S"), -1)
        axes = axes.replace("S", "") + "S"
        if not _is_color(page):
            axes = axes[:-1] + ("C" if "C" not in axes else "Q")
    return np.ascontiguousarray(samples, samples.dtype.newbyteorder("=")), axes


def _is_color(page: Any) -> bool:
    """Whether the samples of a pixel are a color: RGB, or gray with a declared alpha."""
    extra = [int(kind) for kind in page.extrasamples]
    gray_alpha = page.samplesperpixel == 2 and extra[-1:] in ([1], [2])
    return int(page.photometric) in (RGB, YCBCR, PALETTE) or gray_alpha


def _tags(tif: tifffile.TiffFile) -> dict[int, Field]:
    """Return the tags of the first page that do not depend on how and where samples lie."""
    handle: Any = tif.filehandle
    tags = exif_.read_directory(handle, tif.pages[0].offset, tif.byteorder, big=tif.is_bigtiff)
    return {code: tag for code, tag in tags.items() if code not in STRUCTURE | BOUND}


def _layout(
    tif: tifffile.TiffFile, series: Any, page: Any, kind: tuple[str, tuple[int, ...], str]
) -> Layout:
    photometric = int(page.photometric)
    compression = {32946: DEFLATE, 34926: 50000}.get(int(page.compression), int(page.compression))
    lossless = compression in LOSSLESS
    pages = [part.index for part in series.pages]
    return Layout(
        order=tif.byteorder,
        big=tif.is_bigtiff,
        photometric=RGB if photometric in (PALETTE, YCBCR) else photometric,
        planar=int(page.planarconfig) == 2,
        extra=tuple(int(extra) for extra in page.extrasamples),
        compression=compression if lossless else DEFLATE,
        predictor=int(page.predictor) != 1 if lossless else True,
        tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
        rows=None if page.is_tiled else page.rowsperstrip,
        tags={code: tag for code, tag in _tags(tif).items() if code not in EXIF_TAGS},
        # In the order of the file, or the description would number the pages wrongly.
        described=kind if pages == sorted(pages) and photometric != PALETTE else None,
    )


def _metadata(tags: Mapping[int, Field], layout: Layout) -> Metadata:
    first = {code: tag for code, tag in tags.items() if code in EXIF_TAGS}
    description = first.get(DESCRIPTION)
    native: dict[str, Any] = {"layout": layout}
    if description is not None:
        native["description"] = description
        if _is_structural(description.value):
            del first[DESCRIPTION]
    exif = None if first.keys() <= RESOLUTION_TAGS else exif_.build(first, layout.order)
    native["resolution"] = {code: tags[code] for code in RESOLUTION_TAGS & tags.keys()}
    dpi = _dpi(tags)
    if dpi is not None:
        native["dpi"] = dpi
    icc = tags.get(ICC)
    return Metadata(
        icc=icc.value if icc else None,
        exif=exif,
        orientation=exif_.orientation(tags),
        format="tiff",
        native=native,
    )


def _is_structural(description: bytes) -> bool:
    """Whether a description tells programs about the stack, rather than people the picture."""
    start = description.lstrip(b" \r\n\t\xef\xbb\xbf")
    return start.startswith((b"ImageJ=", b'{"shape"', b"<?xml", b"<OME"))


def _dpi(tags: Mapping[int, Field]) -> tuple[float, float] | None:
    unit = tags[RESOLUTION_UNIT].numbers()[0] if RESOLUTION_UNIT in tags else 2
    values = []
    for code in (X_RESOLUTION, Y_RESOLUTION):
        if code not in tags or tags[code].kind != 5 or unit not in INCHES:
            return None
        top, bottom = tags[code].numbers()[0]
        if not top or not bottom:
            return None
        values.append(top / bottom * INCHES[unit])
    return values[0], values[1]


def _written_tags(image: Image, layout: Layout, exif: Mapping[int, Field]) -> dict[int, Field]:
    """Return the tags of the first page beside those of structure and resolution."""
    metadata = image.metadata
    left_out = STRUCTURE | BOUND | RESOLUTION_TAGS | {ICC, exif_.INTEROP_POINTER}
    tags = {**layout.tags, **exif}
    description = metadata.native.get("description") if metadata.format == "tiff" else None
    if description and DESCRIPTION not in tags and layout.described == _kind(image):
        tags[DESCRIPTION] = description
    if exif_.ORIENTATION not in tags and metadata.orientation != 1:
        tags[exif_.ORIENTATION] = Field(3, struct.pack("<H", metadata.orientation))
    tags = {code: tag for code, tag in tags.items() if code not in left_out}
    if metadata.icc is not None:
        tags[ICC] = Field(7, metadata.icc)
    return tags


def _options(image: Image, layout: Layout) -> tuple[Array, dict[str, Any]]:
    """Return (..., Y, X) or (..., Y, X, S) samples and how tifffile shall store them."""
    samples, axes = image.samples, image.axes
    if samples.dtype.name not in DTYPES:
        raise UnwritableOutput(
            f"TIFF is not written with samples of type {samples.dtype}; convert them to float32"
        )
    channels_last = layout.photometric is not None and axes.endswith("YXC")
    letters = "YXC" if channels_last else ("YXS" if "S" in axes else "YX")
    inside = [axes.rindex(letter) for letter in letters]
    pages = [i for i in range(len(axes)) if i not in inside]
    planes = samples.transpose(pages + inside)
    count = planes.shape[-1] if len(letters) == 3 else 1
    if len(letters) == 3 and count == 1:
        planes, letters = planes[..., 0], "YX"
    color = letters == "YXS" and count >= 3
    gray = layout.photometric if layout.photometric in (MINISWHITE, MINISBLACK) else MINISBLACK
    options: dict[str, Any] = {"photometric": RGB if color else gray, "metadata": None}
    if pages and layout.described != _kind(image):
        options["metadata"] = {"axes": "".join(axes[i] for i in pages) + letters}
    if count > 1:
        options["planarconfig"] = "separate" if layout.planar else "contig"
        planes = np.moveaxis(planes, -1, -3) if layout.planar else planes
        if layout.planar and options["metadata"]:
            options["metadata"] = {"axes": "".join(axes[i] for i in pages) + letters[2] + "YX"}
    extra = count - (3 if color else 1)
    if extra:
        default = (0,) if channels_last else (2,)  # unspecified, or unassociated alpha
        options["extrasamples"] = layout.extra if len(layout.extra) == extra else default * extra
    return np.ascontiguousarray(planes), options | _packing(layout, samples.shape[axes.index("Y")])


def _kind(image: Image) -> tuple[str, tuple[int, ...], str]:
    return image.axes, image.samples.shape, image.samples.dtype.name


def _packing(layout: Layout, height: int) -> dict[str, Any]:
    options: dict[str, Any] = {"compression": layout.compression}
    if layout.compression == NO_COMPRESSION:
        options["compression"] = None
    if layout.predictor and layout.compression not in UNPREDICTED:
        options["predictor"] = True
    if layout.tile is not None and all(side % 16 == 0 for side in layout.tile):
        options["tile"] = layout.tile
    elif layout.rows is not None and options["compression"] is not None:
        options["rowsperstrip"] = max(1, min(layout.rows, height))
    return options


def _resolution(tags: Mapping[int, Field], metadata: Metadata) -> tuple[Any, int | None]:
    """Return the resolution in x and y and its unit, as tifffile takes them."""
    found = {**metadata.native.get("resolution", {}), **tags}
    fields = [found[code] for code in (X_RESOLUTION, Y_RESOLUTION) if code in found]
    values = [tag.numbers()[0] for tag in fields if tag.kind == 5]
    unit = found[RESOLUTION_UNIT].numbers()[0] if RESOLUTION_UNIT in found else 2
    if len(values) == 2 and unit in (1, 2, 3) and all(bottom for _, bottom in values):
        return tuple(values), unit
    if "dpi" in metadata.native:
        return metadata.native["dpi"], 2
    return None, None


def _finish(path: Path, children: Mapping[int, Field], order: str) -> None:
    """Append the directories of EXIF and GPS, and see that the disk took the whole file."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        size = os.path.getsize(path)
        pages: Any = tif.pages
        for page in pages:
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if max(ends) > size:  # numpy does not notice when its last bytes are not written
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        big, start = tif.is_bigtiff, pages[0].offset
    with path.open("r+b") as file:
        for code, pointer in children.items():
            base = file.seek(0, os.SEEK_END)
            base += file.write(b"\0" * (base % 2))
            file.write(exif_.directory_bytes(pointer.children or {}, order, base, big=big))
            file.seek(exif_.value_offset(file, start, code, order, big=big))
            file.write(struct.pack(order + ("Q" if big else "I"), base))
