"""Standard input and output as image files: ``denoise - -o -``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ..errors import DenoiseError, UnreadableImage, UnwritableOutput, UsageError
from ..io import SUFFIXES
from .files import STREAM, known_suffixes

BROKEN_PIPE = 128 + 13  # what a shell reports for a process that SIGPIPE ended
CHUNK = 1 << 20


class Streams:
    """Lends files for standard input and output while a call runs.

    Formats need files that can be searched, and an output is sent only when it is complete: a
    reader never gets half of one. While the output is the standard one, whatever else prints
    there is sent to standard error.

    Parameters
    ----------
    to_stdout : bool
        Whether the output is standard output.

    Raises
    ------
    UsageError
        On entering, if standard output is a terminal.
    """

    def __init__(self, *, to_stdout: bool) -> None:
        self._to_stdout = to_stdout
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._data = -1

    def __enter__(self) -> Streams:
        if self._to_stdout:
            if sys.stdout.isatty():
                raise UsageError("standard output is a terminal; give -o FILE or pipe it on")
            sys.stdout.flush()
            self._data = os.dup(1)
            os.dup2(2, 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._data >= 0:
            sys.stdout.flush()  # what was printed meanwhile, before it could follow the image
            os.dup2(self._data, 1)
            os.close(self._data)
            self._data = -1
        if self._folder is not None:
            self._folder.cleanup()

    def input(self, path: Path) -> Path:
        """The file to read for `path`: itself, or what standard input holds."""
        if path != STREAM:
            return path
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("standard input is a terminal; pipe an image into it")
        spooled = self._scratch() / "standard input"
        try:
            with spooled.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, CHUNK)
        except OSError as error:
            raise UnreadableImage(
                f"standard input: cannot be kept in {tempfile.gettempdir()} ({error.strerror}); "
                "let TMPDIR name a folder with more space"
            ) from None
        return spooled

    def output(self, path: Path, suffix: str) -> Path:
        """The file to write for `path`: itself, or one that `send` passes on."""
        if path != STREAM:
            return path
        if suffix.lower() not in SUFFIXES:
            raise UsageError(f"standard output: give its --format; known are {known_suffixes()}")
        return self._scratch() / f"standard output{suffix}"

    def send(self, path: Path, written: Path) -> None:
        """Copy what was `written` for `path` to standard output, if that is where it goes.

        Raises
        ------
        UnwritableOutput
            If it cannot be written. A reader that has gone away ends the process quietly.
        """
        if path != STREAM:
            return
        try:
            with os.fdopen(os.dup(self._data), "wb") as out, written.open("rb") as file:
                shutil.copyfileobj(file, out, CHUNK)
        except BrokenPipeError:
            raise SystemExit(BROKEN_PIPE) from None
        except OSError as error:
            raise UnwritableOutput(
                f"standard output: cannot be written ({error.strerror}); check the free space"
            ) from None

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let errors inside name standard input and output, not the files lent for them."""
        try:
            yield
        except DenoiseError as error:
            if self._folder is None:
                raise
            raise type(error)(str(error).replace(f"{self._folder.name}{os.sep}", "")) from error

    def _scratch(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="denoise-")
        return Path(self._folder.name)
