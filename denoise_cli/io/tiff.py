"""TIFF: integers and floats, gray, RGB, channels and stacks, with their tags; CMYK becomes RGB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnreadableImage
from ..image import Array, Metadata, Stack, regrouped
from . import cmyk, exif as exif_, pixel_size
from .exif import Field
from .tiff_layout import (
    BOUND,
    COLORS,
    DEFLATE,
    DESCRIPTION,
    DTYPES,
    EXIF_TAGS,
    ICC,
    INCHES,
    JPEG_COMPRESSIONS,
    LOSSLESS,
    MINISBLACK,
    MINISWHITE,
    PALETTE,
    RESOLUTION_TAGS,
    RESOLUTION_UNIT,
    RGB,
    SEPARATED,
    STRUCTURE,
    X_RESOLUTION,
    Y_RESOLUTION,
    YCBCR,
    Layout,
    quiet,
)
from .tiff_write import check, write_stack

if TYPE_CHECKING:
    import tifffile

__all__ = ["NAME", "SUFFIXES", "check", "matches", "open", "write_stack"]

NAME = "TIFF"
SUFFIXES = frozenset({".tif", ".tiff"})

DNG_VERSION = 50706
INK_SET = 332
CONVERTED = (PALETTE, SEPARATED)  # to RGB
# These begin like a TIFF, but as one they show their preview only.
RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".pef", ".sr2", ".srw")


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a TIFF or BigTIFF."""
    tiff = header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return tiff and header[128:132] != b"DICM"  # DICOM may begin like a TIFF


@contextmanager
def open(path: Path) -> Iterator[Stack]:
    """Open a TIFF of one picture, or a stack of equal ones as planes."""
    import tifffile

    with quiet() as complaints, tifffile.TiffFile(path) as tif:
        series = _only_series(tif)
        page = series.keyframe
        _check_layout(page)
        _check_extent(series, path.stat().st_size)
        page_frame, leading = _page_reader(series)

        def stored(index: int) -> Array:
            samples = page_frame(index)
            if complaints:
                raise UnreadableImage(
                    f"damaged or truncated TIFF ({complaints[0]}); copy or export it again"
                )
            return _arranged(samples, series.axes[leading:], page)[0]

        blank = np.broadcast_to(np.zeros((), series.dtype), series.shape[leading:])
        sample, frame_axes = _arranged(blank, series.axes[leading:], page)
        shape = (*series.shape[:leading], *sample.shape)
        axes = series.axes[:leading] + frame_axes
        layout = _layout(tif, series, page, (axes, shape, sample.dtype.name))
        metadata = _metadata(_tags(tif), layout, _pixel_size(tif, page))
        if _is_cmyk(page):
            _, icc, note = cmyk.to_rgb(np.zeros((1, 1, 4), np.uint8), page.iccprofile)
            metadata = replace(metadata, icc=icc, note=note)
        stack = Stack(shape, axes, sample.dtype, stored, metadata)
        yield replace(stack, frame=regrouped(stored, shape, leading, stack.leading))


def _page_reader(series: Any) -> tuple[Callable[[int], Array], int]:
    """How to read the pages of a series one by one, and the number of axes in front of a page."""
    page, tif = series.keyframe, series.parent
    leading = len(series.shape) - len(page.shape)
    if leading < 0 or series.shape[leading:] != page.shape:
        return (lambda _: series.asarray()), 0
    if series.dataoffset is None:
        return (lambda index: series.pages[index].asarray()), leading
    # One after another, and perhaps without a directory for each (ImageJ beyond 4 GB).
    stored = np.dtype(page.dtype).newbyteorder(tif.byteorder)
    count = int(np.prod(page.shape))

    def read(index: int) -> Array:
        offset = series.dataoffset + index * count * stored.itemsize
        tif.filehandle.seek(offset)
        return tif.filehandle.read_array(stored, count).reshape(page.shape)

    return read, leading


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
    if _is_cmyk(page):
        if name != "uint8" or int(page.compression) in JPEG_COMPRESSIONS:
            raise UnreadableImage(
                "holds CMYK that is not of 8 bits, or compressed as a JPEG; convert it to RGB"
            )
    elif not rgb and photometric not in (MINISWHITE, MINISBLACK, RGB, PALETTE):
        color = COLORS.get(photometric, f"photometric {photometric}")
        raise UnreadableImage(f"a TIFF of {color} samples, which is not read; convert it to RGB")
    if page.samplesperpixel > 4:
        raise UnreadableImage(
            f"has {page.samplesperpixel} samples per pixel, more than RGB and alpha; "
            "save its channels as pages"
        )
    if photometric in (RGB, YCBCR) and page.samplesperpixel < 3:
        raise UnreadableImage("damaged TIFF (RGB of fewer than 3 samples); export it again")


def _is_cmyk(page: Any) -> bool:
    inks = page.tags.get(INK_SET)
    cmyk_inks = inks is None or int(inks.value) == 1
    return int(page.photometric) == SEPARATED and page.samplesperpixel == 4 and cmyk_inks


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
        if _is_cmyk(page):
            samples = cmyk.to_rgb(samples, page.iccprofile)[0]
        elif not _is_color(page):
            axes = axes[:-1] + ("C" if "C" not in axes else "Q")
    return np.ascontiguousarray(samples, samples.dtype.newbyteorder("=")), axes


def _is_color(page: Any) -> bool:
    """Whether the samples of a pixel are a color: RGB, or gray with a declared alpha."""
    extra = [int(kind) for kind in page.extrasamples]
    gray_alpha = page.samplesperpixel == 2 and extra[-1:] in ([1], [2])
    if page.is_imagej and page.parent.imagej_metadata.get("mode"):
        return False  # its "composite" of channels, which it stores as if they were RGB
    return int(page.photometric) in (RGB, YCBCR, PALETTE) or gray_alpha


def _tags(tif: tifffile.TiffFile) -> dict[int, Field]:
    """Return the tags of the first page that do not depend on how and where samples lie."""
    return _page_tags(tif, tif.pages[0])


def _page_tags(tif: tifffile.TiffFile, page: Any) -> dict[int, Field]:
    handle: Any = tif.filehandle
    dropped = STRUCTURE | BOUND | (cmyk.INK_TAGS if _is_cmyk(page.keyframe) else frozenset())
    tags = exif_.read_directory(handle, page.offset, tif.byteorder, big=tif.is_bigtiff)
    return {code: tag for code, tag in tags.items() if code not in dropped}


def _later_tags(
    tif: tifffile.TiffFile, series: Any, first: Mapping[int, Field]
) -> tuple[dict[int, Field], ...]:
    """Return what the tags of each later page say otherwise than those of the first."""
    unlike = RESOLUTION_TAGS | {ICC, exif_.EXIF_POINTER, exif_.GPS_POINTER}
    pages = [page for page in series.pages if page.index > 0]
    found = []
    for page in pages:
        tags = _page_tags(tif, page).items()
        found.append({c: tag for c, tag in tags if c not in unlike and first.get(c) != tag})
    return tuple(found) if any(found) and len(found) + 1 == len(series.pages) else ()


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
        photometric=RGB if photometric in (PALETTE, YCBCR, SEPARATED) else photometric,
        planar=int(page.planarconfig) == 2,
        extra=tuple(int(extra) for extra in page.extrasamples),
        compression=compression if lossless else DEFLATE,
        predictor=int(page.predictor) != 1 if lossless else True,
        tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
        rows=None if page.is_tiled else page.rowsperstrip,
        tags={code: tag for code, tag in _tags(tif).items() if code not in EXIF_TAGS},
        # In the order of the file, or the description would number the pages wrongly.
        described=kind if pages == sorted(pages) and photometric not in CONVERTED else None,
        levels=_levels(series),
        page_tags=_later_tags(tif, series, _tags(tif)) if len(series.levels) == 1 else (),
    )


def _levels(series: Any) -> tuple[tuple[int, int], ...]:
    """Return the heights and widths of the smaller copies in a pyramid, the largest first."""
    pages = [level.keyframe for level in series.levels[1:]]
    return tuple((page.imagelength, page.imagewidth) for page in pages)


def _pixel_size(tif: Any, page: Any) -> pixel_size.PixelSize:
    if tif.is_ome:
        return pixel_size.of_ome(tif.ome_metadata)
    if tif.is_imagej:
        codes = [page.tags.get(code) for code in (X_RESOLUTION, Y_RESOLUTION)]
        pairs = [tag.value for tag in codes if tag is not None]
        known = len(pairs) == 2 and all(bottom for _, bottom in pairs)
        resolution = (pairs[0][0] / pairs[0][1], pairs[1][0] / pairs[1][1]) if known else None
        return pixel_size.of_imagej(tif.imagej_metadata, resolution)
    return {}


def _metadata(tags: Mapping[int, Field], layout: Layout, sizes: pixel_size.PixelSize) -> Metadata:
    first = {code: tag for code, tag in tags.items() if code in EXIF_TAGS}
    description = first.get(DESCRIPTION)
    native: dict[str, Any] = {"layout": layout}
    if description is not None:
        native["description"] = description
        if _is_structural(description.value):
            del first[DESCRIPTION]
    exif = None if first.keys() <= RESOLUTION_TAGS else exif_.build(first, layout.order)
    native["resolution"] = {code: tags[code] for code in RESOLUTION_TAGS & tags.keys()}
    if sizes:
        native["pixel_size"] = sizes
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
