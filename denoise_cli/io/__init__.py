"""Picture files in and out: a file's content decides how it is read, its suffix how it is written.

A format is a module of this folder (see `Format`) listed in `FORMATS`.
"""

from __future__ import annotations

import os
import secrets
import stat
import struct
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput, UsageError
from ..image import Array, Image, check_axes
from . import dng, jpeg, png, raw, tiff


class Format(Protocol):
    """What the module of a format offers.

    Its `read` and `write` raise UnreadableImage and UnwritableOutput without the path, which is
    put in front here. Whatever else reading raises (`DECODING_ERRORS`) means a damaged file.
    """

    NAME: str
    SUFFIXES: frozenset[str]

    def matches(self, header: bytes) -> bool:
        """Whether a file that begins with these `HEADER_BYTES` is of this format."""

    def read(self, path: Path) -> Image:
        """Read a file."""

    def write(self, path: Path, image: Image) -> None:
        """Write to a path that may be overwritten."""


FORMATS: tuple[Format, ...] = (png, jpeg, tiff, dng)

WRITTEN: frozenset[str] = frozenset().union(*(format_.SUFFIXES for format_ in FORMATS))
SUFFIXES: frozenset[str] = WRITTEN | raw.SUFFIXES

HEADER_BYTES = 132

# Known by sight but not read: (offset, magic bytes, name).
FOREIGN = (
    (128, b"DICM", "a DICOM"),
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (8, b"WEBP", "a WebP"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphei", "an HEIC"),
    (4, b"ftypmif1", "an HEIC"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"v/1\x01", "an OpenEXR"),
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
        A PNG, JPEG, TIFF or camera raw file.

    Returns
    -------
    Image
        Samples as stored (orientation not applied), in native byte order and finite.

    Raises
    ------
    UnreadableImage
        The file is missing, damaged, no picture, or of an unsupported kind.
    """
    path = Path(path)
    format_ = _format_of(path)
    try:
        image = format_.read(path)
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}") from error
    except MemoryError as error:
        raise UnreadableImage(f"{path}: does not fit into memory; give a smaller one") from error
    except DECODING_ERRORS as error:
        raise UnreadableImage(
            f"{path}: damaged or truncated {format_.NAME} ({_one_line(error)}); "
            "copy or export it again"
        ) from error
    if image.samples.size == 0:
        raise UnreadableImage(f"{path}: has no pixels; export it again")
    if image.samples.dtype.kind == "f" and not _all_finite(image.samples):
        raise UnreadableImage(
            f"{path}: holds NaN or infinite samples; replace them by numbers first"
        )
    return image


def write(path: str | os.PathLike[str], image: Image, *, overwrite: bool = False) -> None:
    """Write a picture in the format its suffix names, completely or not at all.

    The samples go to a temporary file in the same folder, which then takes the name `path`.

    Parameters
    ----------
    path : path-like
        Ends with one of `SUFFIXES`, upper or lower case.
    image : Image
        Metadata goes along as far as the format can hold it.
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
    check_axes(image.samples, image.axes)
    format_ = next(f for f in FORMATS if path.suffix.lower() in f.SUFFIXES)
    if format_ is not dng:
        image = dng.develop(image, bits=8 if format_ is jpeg else 16)
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = target.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        # Made by hand for its permissions: tempfile's are private, these obey the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        format_.write(temporary, image)
        if not overwrite and target.exists():
            raise UsageError(_exists(path))
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
        temporary.unlink(missing_ok=True)


def output_suffix(path: Path) -> str:
    """The suffix of what is written for an input of this name if nothing else is said."""
    return ".dng" if path.suffix.lower() in raw.SUFFIXES else path.suffix


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
    if path.suffix.lower() in raw.SUFFIXES:
        raise UsageError(f"{path}: {raw.READ_ONLY}; give another -o")
    if path.suffix.lower() not in WRITTEN:
        raise UsageError(
            f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(sorted(WRITTEN))}"
        )
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
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


def _format_of(path: Path) -> Format:
    """Return the format of a file by its first bytes."""
    try:
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
    known = ", ".join(format_.NAME for format_ in FORMATS)
    for offset, magic, name in FOREIGN:
        if header.startswith(magic, offset):
            raise UnreadableImage(f"{path}: {name} file, which is not read; convert it to {known}")
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
