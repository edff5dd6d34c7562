"""Picture files in and out: a file's content decides how it is read, its suffix how it is written.

A format is a module of this folder (see `Format`) listed in `FORMATS`.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput, UsageError
from ..image import Array, Image, Metadata, Stack
from . import avif, bmp, dicom, dng, exr, gif, heif, jpeg, ome_zarr, png, pnm, raw, tiff, webp
from .temporary import beside


class Format(Protocol):
    """What the module of every format offers.

    What it raises as UnreadableImage and UnwritableOutput is without the path, which is put in
    front here. Whatever else reading raises (`DECODING_ERRORS`) means a damaged file.
    """

    NAME: str
    SUFFIXES: frozenset[str]

    def matches(self, header: bytes) -> bool:
        """Whether a file that begins with these `HEADER_BYTES` is of this format."""


@runtime_checkable
class ReadFormat(Format, Protocol):
    """A format that is read, but not written: `READ_ONLY` says why, and what to write instead."""

    READ_ONLY: str

    def read(self, path: Path) -> Image:
        """Read a file."""


@runtime_checkable
class PictureFormat(Format, Protocol):
    """A format whose files are in memory as a whole."""

    def read(self, path: Path) -> Image:
        """Read a file."""

    def check(self, stack: Stack, suffix: str) -> None:
        """Raise UnwritableOutput if files of this suffix cannot hold such pictures.

        No frame is asked for: shape, axes, dtype and metadata must tell.
        """

    def write(self, path: Path, image: Image) -> None:
        """Write what was checked to a path that may be overwritten."""


@runtime_checkable
class StackFormat(Format, Protocol):
    """A format that is read and written frame by frame."""

    def open(self, path: Path) -> AbstractContextManager[Stack]:
        """Open a file; its frames can be read inside the context."""

    def check(self, stack: Stack, suffix: str) -> None:
        """As that of `PictureFormat`."""

    def write_stack(self, path: Path, stack: Stack) -> None:
        """Write the frames as they come, to a path that may be overwritten."""


AnyFormat = ReadFormat | PictureFormat | StackFormat

FORMATS: tuple[AnyFormat, ...] = (
    png,
    jpeg,
    dicom,
    dng,
    raw,
    tiff,
    webp,
    avif,
    heif,
    bmp,
    gif,
    pnm,
    exr,
    ome_zarr,
)

SUFFIXES: frozenset[str] = frozenset().union(*(format_.SUFFIXES for format_ in FORMATS))

# Suffixes that are only read although others of their format are written: why, and what instead.
UNWRITTEN: dict[str, str] = dict(pnm.UNWRITTEN)

WRITTEN: frozenset[str] = frozenset().union(
    *(f.SUFFIXES for f in FORMATS if isinstance(f, PictureFormat | StackFormat))
) - frozenset(UNWRITTEN)

HEADER_BYTES = 132

# Known by sight but not read: (offset, magic bytes, name).
FOREIGN = (
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop"),
    (0, b"%PDF", "a PDF"),
    (0, b"SIMPLE  =", "a FITS"),
    (0, b"\x89HDF", "an HDF5"),
    (0, b"PK\x03\x04", "a ZIP"),
)

# What libraries raise on damaged files; imagecodecs errors are RuntimeErrors.
DECODING_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    struct.error,
    zlib.error,
)


def read(path: str | os.PathLike[str]) -> Image:
    """Read a picture; the content of the file, not its suffix, says what it is.

    Parameters
    ----------
    path : path-like
        A file of one of `FORMATS`.

    Returns
    -------
    Image
        Samples as stored (orientation not applied), in native byte order and finite.

    Raises
    ------
    UnreadableImage
        The file is missing, damaged, no picture, or of an unsupported kind.
    """
    with open_stack(path) as stack:
        return stack.read()


@contextmanager
def open_stack(path: str | os.PathLike[str]) -> Iterator[Stack]:
    """Open a picture or stack; its frames are read when asked for, as by `read`.

    Raises
    ------
    UnreadableImage
        As `read`; what is wrong with a frame when it is asked for.
    """
    path = Path(path)
    format_ = _format_of(path)
    with ExitStack() as opened:
        with _reading(path, format_):
            if isinstance(format_, StackFormat):
                stack = opened.enter_context(format_.open(path))
            else:
                image = format_.read(path)
                if image.samples.size == 0:
                    raise UnreadableImage("has no pixels; export it again")
                stack = Stack.of(image)

        def frame(index: int) -> Array:
            with _reading(path, format_):
                samples = stack.frame(index)
                if samples.dtype.kind == "f" and not _all_finite(samples):
                    raise UnreadableImage(
                        "holds NaN or infinite samples; replace them by numbers first"
                    )
                return samples

        yield replace(stack, frame=frame)


@contextmanager
def _reading(path: Path, format_: Format) -> Iterator[None]:
    """Put the path in front of what goes wrong inside."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}") from error
    except MemoryError as error:
        raise UnreadableImage(f"{path}: does not fit into memory; give a smaller one") from error
    except DECODING_ERRORS as error:
        raise UnreadableImage(
            f"{path}: damaged or truncated {format_.NAME} ({_one_line(error)}); "
            "copy or export it again"
        ) from error


def write(path: str | os.PathLike[str], image: Image | Stack, *, overwrite: bool = False) -> None:
    """Write a picture in the format its suffix names, completely or not at all.

    The samples go to a temporary file in the same folder, which then takes the name `path`.

    Parameters
    ----------
    path : path-like
        Ends with one of `SUFFIXES`, upper or lower case.
    image : Image or Stack
        Metadata goes along as far as the format can hold it. The frames of a stack are asked for
        one after another, and are in memory one at a time where the format allows.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    UsageError
        The suffix is unknown, or the file exists and `overwrite` is false.
    UnwritableOutput
        Folder missing, no permission, disk full, or the format cannot hold the picture.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    stack = Stack.of(image) if isinstance(image, Image) else image
    check_picture(path, stack)
    format_ = _format_named(path)
    if _is_developed(stack, format_):
        stack = Stack.of(dng.develop(stack.read(), bits=_bits_developed(format_)))
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = beside(target)
    try:
        # Made by hand for its permissions: tempfile's are private, these obey the umask.
        if not is_folder(path):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        if isinstance(format_, StackFormat):
            format_.write_stack(temporary, stack)
        else:
            assert isinstance(format_, PictureFormat)  # by check_suffix
            format_.write(temporary, stack.read())
        if not overwrite and target.exists():
            raise UsageError(_exists(path))
        if target.is_dir():  # which no file can take the place of at once
            old = temporary.with_suffix(".old")
            os.replace(target, old)
            os.replace(temporary, target)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
    except UnwritableOutput as error:
        raise UnwritableOutput(f"{path}: {error}") from error
    except MemoryError as error:
        raise UnwritableOutput(f"{path}: not enough memory; write fewer at a time") from error
    except OSError as error:
        raise UnwritableOutput(
            f"{path}: cannot be written ({_one_line(error)}); "
            "check the free space and the permissions, or give another -o"
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def output_suffix(path: Path) -> str:
    """The suffix of what is written for an input of this name if nothing else is said."""
    suffix = path.suffix.lower()
    if suffix == ".pbm":
        return ".pgm"
    return ".dng" if suffix in raw.SUFFIXES else path.suffix


def check_picture(path: str | os.PathLike[str], stack: Stack) -> None:
    """Raise what `write` would raise for such a picture: to be asked before work.

    No frame is asked for.

    Raises
    ------
    UsageError
        The suffix is unknown, or that of a format which is only read.
    UnwritableOutput
        The format cannot hold its axes, type or metadata, or needs a library that is not here.
    """
    path = Path(path)
    check_suffix(path)
    format_ = _format_named(path)
    if _is_developed(stack, format_):
        kind = np.dtype(f"uint{_bits_developed(format_)}")
        metadata = Metadata(exif=stack.metadata.exif)
        stack = replace(stack, shape=(*stack.shape, 3), axes="YXS", dtype=kind, metadata=metadata)
    assert isinstance(format_, PictureFormat | StackFormat)  # by check_suffix
    try:
        format_.check(stack, path.suffix.lower())
    except UnwritableOutput as error:
        raise UnwritableOutput(f"{path}: {error}") from error


def _is_developed(stack: Stack, format_: Format) -> bool:
    """Whether a mosaic is written as a picture."""
    return stack.metadata.view is not None and format_ is not dng


def _bits_developed(format_: Format) -> int:
    return 8 if format_ in (jpeg, webp) else 16


def _format_named(path: Path) -> AnyFormat:
    """The format that the suffix names."""
    return next(f for f in FORMATS if path.suffix.lower() in f.SUFFIXES)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise what `write` would raise for `path`, whatever the picture: to be asked before work.

    Raises
    ------
    UsageError
        The suffix is unknown, or the file exists and `overwrite` is false.
    UnwritableOutput
        Its folder is missing or not writable, or `path` is no regular file.
    """
    path = Path(path)
    check_suffix(path)
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file() and not (is_folder(path) and is_store(target)):
            raise UnwritableOutput(f"{path}: is not a regular file; give another -o")
        if target.exists() and not overwrite:
            raise UsageError(_exists(path))
        if not target.parent.is_dir():
            raise UnwritableOutput(
                f"{path}: there is no folder {target.parent}; make it first or give another -o"
            )
    except OSError as error:
        raise UnwritableOutput(
            f"{path}: cannot be written ({_one_line(error)}); give another -o"
        ) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UnwritableOutput(
            f"{path}: no permission to write in {target.parent}; give another -o"
        )


def check_suffix(path: Path) -> None:
    """Refuse a name that no format is written under.

    Raises
    ------
    UsageError
        The suffix is unknown, or that of a format which is only read.
    """
    format_ = next((f for f in FORMATS if path.suffix.lower() in f.SUFFIXES), None)
    if format_ is None:
        raise UsageError(
            f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(sorted(WRITTEN))}"
        )
    if path.suffix.lower() in UNWRITTEN:
        raise UsageError(f"{path}: {UNWRITTEN[path.suffix.lower()]}")
    if isinstance(format_, ReadFormat):
        raise UsageError(f"{path}: {format_.READ_ONLY}")


def is_folder(path: Path) -> bool:
    """Whether a picture of this name is a folder rather than a file."""
    return path.suffix.lower() in ome_zarr.SUFFIXES


def is_store(path: Path) -> bool:
    """Whether a path is a picture although it is a folder."""
    return ome_zarr.is_store(path)


def _format_of(path: Path) -> AnyFormat:
    """Return the format of a file by its first bytes."""
    try:
        if path.is_dir() and is_store(path):
            return ome_zarr
        if path.is_dir():
            raise UnreadableImage(f"{path}: is a folder; give a picture")
        if path.exists() and not path.is_file():
            raise UnreadableImage(f"{path}: is not a regular file; save it as one first")
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path}: no such file; check the name") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(
            f"{path}: cannot be opened ({_one_line(error)}); check the name and its permissions"
        ) from error
    if not header:
        raise UnreadableImage(f"{path}: the file is empty (0 bytes); copy or export it again")
    if raw.matches(header) or raw.claims(path, header):
        return dng  # reads every camera raw file
    for format_ in FORMATS:
        if format_.matches(header):
            return format_
    for offset, magic, name in FOREIGN:
        if header.startswith(magic, offset):
            raise UnreadableImage(f"{path}: {name} file, which is not read; convert it to TIFF")
    known = ", ".join(format_.NAME for format_ in FORMATS)
    kind = "text" if _is_text(header) else "of an unknown format"
    raise UnreadableImage(f"{path}: not a picture but {kind}; give one of {known}")


def _is_text(header: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in header) and 127 not in header


def _all_finite(samples: Array) -> bool:
    # The extremes of a picture with a NaN are NaN: no second array as large as the picture.
    return bool(np.isfinite(samples.min()) and np.isfinite(samples.max()))


def _exists(path: Path) -> str:
    return f"{path}: exists; give --overwrite or another -o"


def _one_line(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    # Libraries put the name of the file or of their object in front; the path is said already.
    text = text.removeprefix(f"{type(error).__name__}: ")
    return " ".join(text.split()) or type(error).__name__
