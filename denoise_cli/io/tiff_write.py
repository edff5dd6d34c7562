"""How TIFF files are written: frame by frame, like the file that the picture came from."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import UnwritableOutput
from ..image import Array, Metadata, Stack
from . import exif as exif_
from .exif import Field
from .reduce import reduced
from .tiff_layout import (
    BOUND,
    CLASSIC_BYTES,
    DESCRIPTION,
    DTYPES,
    ICC,
    MINISBLACK,
    MINISWHITE,
    NO_COMPRESSION,
    RESOLUTION_TAGS,
    RESOLUTION_UNIT,
    RGB,
    STRUCTURE,
    UNPREDICTED,
    X_RESOLUTION,
    Y_RESOLUTION,
    Layout,
    quiet,
)

BUFFER = 2**25  # bytes that are read ahead where several threads compress


@dataclass(frozen=True)
class _Pages:
    """How a stack is laid out as pages of (Y, X), (Y, X, S), or (S, Y, X) where planar.

    `shape` is that of all pages, `axes` names its dimensions.
    """

    shape: tuple[int, ...]
    axes: str
    samples: int  # axes of a page beside Y and X: 0 or 1
    planar: bool

    @property
    def page_shape(self) -> tuple[int, ...]:
        return self.shape[-2 - self.samples :]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.shape[-2:] if self.planar or not self.samples else self.shape[-3:-1]
        return height, width

    def of_size(self, size: tuple[int, int]) -> tuple[int, ...]:
        """`shape` with another height and width."""
        if self.planar or not self.samples:
            return (*self.shape[:-2], *size)
        return (*self.shape[:-3], *size, self.shape[-1])


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if a TIFF cannot hold pictures of this kind."""
    if stack.dtype.name not in DTYPES:
        raise UnwritableOutput(
            f"TIFF is not written with samples of type {stack.dtype}; convert them to float32"
        )


def write_stack(path: Path, stack: Stack) -> None:
    """Write a TIFF; what was read from a TIFF keeps its tags, byte order and compression."""
    import tifffile

    metadata = stack.metadata
    layout = metadata.native.get("layout") if metadata.format == "tiff" else None
    exif = exif_.parse(metadata.exif) if metadata.exif else {}
    if layout is None:
        layout = Layout(order=exif_.byte_order(metadata.exif or b"") or "<")
    tags = _written_tags(stack, layout, exif)
    letters = _page_letters(stack, layout)
    pages = _pages(stack, letters, layout)
    options = _options(stack, letters, pages, layout)
    packing = _packing(layout, pages.size[0])
    resolution, unit = _resolution({**layout.tags, **exif}, metadata)
    children = {
        code: tags.pop(code) for code in (exif_.EXIF_POINTER, exif_.GPS_POINTER) if code in tags
    }
    first = _page_options(tags, layout.order)
    # By name, since tifffile leaves pointers given by number out; patched below.
    names = {exif_.EXIF_POINTER: "ExifTag", exif_.GPS_POINTER: "GPSTag"}
    first["extratags"] += [(names[code], exif_.LONG, 1, 0, True) for code in children]
    big = layout.big or stack.nbytes > CLASSIC_BYTES
    with (
        quiet(),
        _Pyramid(layout.levels, pages, stack.dtype, path.parent) as pyramid,
        tifffile.TiffWriter(path, bigtiff=big, byteorder=layout.order, ome=False) as tif,
    ):
        shared: dict[str, Any] = {
            "resolution": resolution,
            "resolutionunit": unit,
            "subifds": len(layout.levels),
            "buffersize": BUFFER,
        }
        shared |= {"dtype": stack.dtype, "software": False, **options, **packing}
        if layout.page_tags and layout.described == _kind(stack):
            _write_each(tif, _split(stack, letters, pages), pages, layout, first, shared)
        else:
            every = pyramid.fill(_split(stack, letters, pages))
            tif.write(
                _chunks(every, pages, packing.get("tile")), shape=pages.shape, **first, **shared
            )
        options["metadata"] = None
        for size, copies in pyramid.levels():
            tif.write(
                _chunks(copies, pages, packing.get("tile")),
                shape=pages.of_size(size),
                dtype=stack.dtype,
                subfiletype=1,
                software=False,
                **options,
                **_packing(layout, size[0]),
            )
    with quiet():
        _finish(path, children, layout.order)


def _write_each(
    tif: Any,
    stored: Iterable[Array],
    pages: _Pages,
    layout: Layout,
    first: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> None:
    """Write page by page, each with tags of its own, as those of Micro-Manager and MetaMorph."""
    for number, page in enumerate(stored):
        own = first if number == 0 else _page_options(layout.page_tags[number - 1], layout.order)
        chunks = _chunks([page], pages, shared.get("tile"))
        tif.write(chunks, shape=pages.page_shape, contiguous=False, **own, **shared)


def _page_options(tags: Mapping[int, Field], order: str) -> dict[str, Any]:
    """The description and other tags of a page as tifffile takes them."""
    description = tags.get(DESCRIPTION)
    extra = [
        (code, tag.kind, tag.count, tag.ordered(order), True)
        for code, tag in sorted(tags.items())
        if code != DESCRIPTION
    ]
    return {"description": description.value if description else None, "extratags": extra}


def _page_letters(stack: Stack, layout: Layout) -> str:
    """Return the axes of a page; channels are inside a pixel only if they were."""
    if layout.photometric is not None and stack.axes.endswith("YXC"):
        return "YXC"
    if "S" in stack.axes and stack.shape[stack.axes.index("S")] > 1:
        return "YXS"
    return "YX"


def _pages(stack: Stack, letters: str, layout: Layout) -> _Pages:
    inside = [stack.axes.rindex(letter) for letter in letters]
    outside = [i for i in range(len(stack.axes)) if i not in inside and stack.axes[i] != "S"]
    planar = layout.planar and len(letters) == 3
    if planar:
        letters, inside = letters[2] + letters[:2], inside[2:] + inside[:2]
    axes = "".join(stack.axes[i] for i in outside) + letters
    shape = tuple(stack.shape[i] for i in outside + inside)
    return _Pages(shape, axes, len(letters) - 2, planar)


def _split(stack: Stack, letters: str, pages: _Pages) -> Iterator[Array]:
    """The pages of each frame in turn."""
    axes = stack.frame_axes
    inside = [axes.rindex(letter) for letter in letters]
    if pages.planar:
        inside = inside[2:] + inside[:2]
    order = [i for i in range(len(axes)) if i not in inside] + inside
    for frame in stack:
        yield from frame.transpose(order).reshape(-1, *pages.page_shape)


def _chunks(pages: Iterable[Array], kind: _Pages, tile: tuple[int, int] | None) -> Iterator[Array]:
    """Pages as tifffile takes them: whole or, where they are stored in tiles, tile by tile."""
    for page in pages:
        if tile is None:
            yield page
            continue
        for part in page if kind.planar else [page]:
            for top in range(0, part.shape[0], tile[0]):
                for left in range(0, part.shape[1], tile[1]):
                    yield part[top : top + tile[0], left : left + tile[1]]


class _Pyramid:
    """Smaller copies of the pages that pass by, kept on disk until their turn to be written."""

    def __init__(
        self, sizes: tuple[tuple[int, int], ...], pages: _Pages, dtype: np.dtype[Any], folder: Path
    ) -> None:
        self._sizes, self._pages, self._dtype, self._folder = sizes, pages, dtype, folder
        self._files: list[BinaryIO] = []

    def __enter__(self) -> _Pyramid:
        for _ in self._sizes:
            self._files.append(tempfile.TemporaryFile(dir=self._folder))
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def fill(self, pages: Iterable[Array]) -> Iterator[Array]:
        """Hand on `pages` and keep their copies."""
        for page in pages:
            copy = page
            for size, file in zip(self._sizes, self._files, strict=True):
                copy = self._reduced(copy, size)
                file.write(copy.tobytes())
            yield page  # at last: after the last one nobody comes back

    def levels(self) -> Iterator[tuple[tuple[int, int], Iterator[Array]]]:
        """The copies of all pages, size by size."""
        for size, file in zip(self._sizes, self._files, strict=True):
            yield size, self._stored(size, file)

    def _stored(self, size: tuple[int, int], file: BinaryIO) -> Iterator[Array]:
        shape = self._pages.of_size(size)[-2 - self._pages.samples :]
        file.seek(0)
        while chunk := file.read(int(np.prod(shape)) * self._dtype.itemsize):
            yield np.frombuffer(chunk, self._dtype).reshape(shape)

    def _reduced(self, page: Array, size: tuple[int, int]) -> Array:
        """`page` with each pixel the mean of those that it stands for."""
        first = 0 if not (self._pages.planar and self._pages.samples) else 1
        return reduced(page, size, (first, first + 1))


def _written_tags(stack: Stack, layout: Layout, exif: Mapping[int, Field]) -> dict[int, Field]:
    """Return the tags of the first page beside those of structure and resolution."""
    metadata = stack.metadata
    left_out = STRUCTURE | BOUND | RESOLUTION_TAGS | {ICC, exif_.INTEROP_POINTER}
    tags = {**layout.tags, **exif}
    description = metadata.native.get("description") if metadata.format == "tiff" else None
    if description and DESCRIPTION not in tags and layout.described == _kind(stack):
        tags[DESCRIPTION] = description
    if exif_.ORIENTATION not in tags and metadata.orientation != 1:
        tags[exif_.ORIENTATION] = Field(3, struct.pack("<H", metadata.orientation))
    tags = {code: tag for code, tag in tags.items() if code not in left_out}
    if metadata.icc is not None:
        tags[ICC] = Field(7, metadata.icc)
    return tags


def _kind(stack: Stack) -> tuple[str, tuple[int, ...], str]:
    return stack.axes, stack.shape, stack.dtype.name


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


def _options(stack: Stack, letters: str, pages: _Pages, layout: Layout) -> dict[str, Any]:
    """Return what tifffile is told of the samples of a pixel and of the axes."""
    count = stack.shape[stack.axes.rindex(letters[2])] if pages.samples else 1
    color = letters == "YXS" and count >= 3
    gray = layout.photometric if layout.photometric in (MINISWHITE, MINISBLACK) else MINISBLACK
    # What ImageJ calls a composite of channels was stored as RGB and is again.
    as_color = color or (letters == "YXC" and layout.photometric == RGB and count >= 3)
    options: dict[str, Any] = {"photometric": RGB if as_color else gray, "metadata": None}
    if len(pages.axes) > len(letters) and layout.described != _kind(stack):
        options["metadata"] = {"axes": pages.axes}
    if count > 1:
        options["planarconfig"] = "separate" if layout.planar else "contig"
    extra = count - (3 if as_color else 1)
    if extra:
        default = (0,) if letters == "YXC" else (2,)  # unspecified, or unassociated alpha
        options["extrasamples"] = layout.extra if len(layout.extra) == extra else default * extra
    return options
