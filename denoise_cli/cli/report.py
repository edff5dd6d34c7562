"""What a call says: messages and progress on stderr, JSON on stdout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import DenoiseError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Report:
    """Messages of one call, and the exit code that follows from them.

    Parameters
    ----------
    quiet, verbose : bool
        Errors only; or more than a line per file.
    as_json : bool
        Print one JSON object per result on stdout.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, as_json: bool = False
    ) -> None:
        self.quiet, self.verbose, self.as_json = quiet, verbose, as_json
        self._failures: list[int] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""

    @contextmanager
    def catch(self) -> Iterator[None]:
        """Say an error of one file and go on with the next."""
        try:
            yield
        except DenoiseError as error:
            self._failures.append(error.exit_code)
            self._print(f"denoise: {error}")

    def exit_code(self, inputs: int) -> int:
        """0 when nothing failed; the error's own code for a sole input; otherwise 1."""
        if not self._failures:
            return 0
        return self._failures[0] if inputs == 1 else 1

    def line(self, text: str) -> None:
        """A message, unless quiet."""
        if not self.quiet:
            self._print(text)

    def data(self, record: Mapping[str, Any]) -> None:
        """One JSON object on stdout, if JSON was asked for."""
        if self.as_json:
            print(json.dumps(json_safe(record), allow_nan=False), flush=True)

    @contextmanager
    def progress(self, *, percent: bool = False) -> Iterator[None]:
        """Show a progress bar inside, where stderr is a terminal."""
        shared = self.as_json and sys.stdout.isatty()  # a bar would cut the JSON lines
        if self.quiet or shared or not sys.stderr.isatty():
            yield
            return
        from rich import progress
        from rich.console import Console

        done = progress.TaskProgressColumn() if percent else progress.MofNCompleteColumn()
        columns = ("{task.description}", progress.BarColumn(), done, progress.TimeElapsedColumn())
        console = Console(stderr=True)
        with progress.Progress(
            *columns, console=console, transient=True, redirect_stdout=False
        ) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = self._task = None

    def start(self, title: str) -> None:
        """Begin the bar of one file."""
        self._title = title
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(_escape(title), total=None)

    def step(self, phase: str, done: int, total: int) -> None:
        """Move the bar: the callback that the library calls."""
        if self._bar is not None and self._task is not None:
            text = _escape(f"{self._title}: {phase}")
            self._bar.update(self._task, description=text, completed=done, total=total)

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


def json_safe(value: Any) -> Any:
    """`value` with NaN and infinities as None, tuples as lists: what JSON can say."""
    if isinstance(value, Mapping):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
