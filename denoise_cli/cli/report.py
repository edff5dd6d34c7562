"""What a call says: messages and progress on stderr, JSON on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DenoiseError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

    from .figures import Figure

LONG = 60.0  # seconds that people like to be told of before


class Report:
    """Messages of one call, and the exit code that follows from them.

    Parameters
    ----------
    quiet, verbose : bool
        Errors only; or more than a line per file.
    as_json : bool
        Print one JSON object per result on stdout.
    debug : bool
        Let internal errors through, with their traceback.

    Attributes
    ----------
    failures : list of str
        What went wrong, a line each.
    done, skipped : int
        Images denoised, and left out as they were done before.
    collect : callable or None
        Takes the figure of each image, for the page of --report.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        as_json: bool = False,
        debug: bool = False,
    ) -> None:
        self.quiet, self.verbose, self.as_json, self.debug = quiet, verbose, as_json, debug
        self.failures: list[str] = []
        self.done = self.skipped = 0
        self.collect: Callable[[Figure], None] | None = None
        self._codes: list[int] = []
        self._started = time.perf_counter()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._files: TaskID | None = None
        self._title = ""

    @contextmanager
    def catch(self, path: Path | None = None) -> Iterator[None]:
        """Say an error of one file (`path`) and go on with the next."""
        try:
            yield
        except DenoiseError as error:
            self.fail(str(error), error.exit_code)
        except BrokenPipeError:  # nobody reads stdout any more
            raise
        except Exception as error:
            if path is None or self.debug:
                raise
            self.fail(f"{path}: {internal_error(error)}", 1)

    def fail(self, message: str, code: int) -> None:
        """Note and say that a file failed, with the exit code of such an error."""
        self._codes.append(code)
        self.failures.append(message)
        self._print(f"denoise: {message}")

    def exit_code(self, inputs: int) -> int:
        """0 when nothing failed; the error's own code for a sole input; otherwise 1."""
        if not self._codes:
            return 0
        return self._codes[0] if inputs == 1 else 1

    def line(self, text: str) -> None:
        """A message, unless quiet."""
        if not self.quiet:
            self._print(text)

    def data(self, record: Mapping[str, Any]) -> None:
        """One JSON object on stdout, if JSON was asked for."""
        if self.as_json:
            print(json.dumps(json_safe(record), allow_nan=False), flush=True)

    def summary(self) -> None:
        """How many images were done, skipped and failed, and the failed ones once more."""
        counts = [f"{self.done} done"]
        counts += [f"{self.skipped} skipped"] if self.skipped else []
        counts += [f"{len(self.failures)} failed"] if self.failures else []
        took = duration(time.perf_counter() - self._started)
        self.line(f"{', '.join(counts)} in {took}{':' if self.failures else ''}")
        for message in sorted(self.failures):
            self.line(f"  {message}")

    @contextmanager
    def progress(self, *, percent: bool = False, files: int = 1) -> Iterator[None]:
        """Show a progress bar inside, where stderr is a terminal; for several files another."""
        shared = self.as_json and sys.stdout.isatty()  # a bar would cut the JSON lines
        if self.quiet or shared or not sys.stderr.isatty():
            yield
            return
        from rich import progress
        from rich.console import Console

        done = progress.TaskProgressColumn() if percent else progress.MofNCompleteColumn()
        columns: list[str | progress.ProgressColumn]
        columns = ["{task.description}", progress.BarColumn(), done, progress.TimeElapsedColumn()]
        if files > 1:
            columns += ["left", progress.TimeRemainingColumn(elapsed_when_finished=True)]
        console = Console(stderr=True, emoji=False)
        with progress.Progress(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            speed_estimate_period=600,  # seconds: files are slow and unlike each other
        ) as bar:
            self._bar = bar
            self._files = bar.add_task("files", total=files) if files > 1 else None
            try:
                yield
            finally:
                self._bar = self._task = self._files = None

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

    def expect(self, name: str, seconds: float, quicker: str | None = None) -> None:
        """Say how long a file will take in all, if that is long, and what would be quicker."""
        if seconds >= LONG:
            ways = " or ".join(filter(None, [quicker, "a smaller picture"]))
            self.line(f"{name}: takes about {_about(seconds)}; {ways} is quicker")

    def advance(self) -> None:
        """Move the bar of the files by one."""
        if self._bar is not None and self._files is not None:
            self._bar.advance(self._files)

    def draw(self, what: RenderableType) -> None:
        """Show something that rich can draw on the terminal, unless quiet."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(what)
            return
        from rich.console import Console

        Console(stderr=True, emoji=False).print(what)

    def raw(self, codes: str) -> None:
        """Write escape codes as they are, with no bar in their way."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.stop()
        sys.stderr.write(codes)
        sys.stderr.flush()
        if self._bar is not None:
            self._bar.start()

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)


def internal_error(error: BaseException) -> str:
    """One line for an error that is the program's own fault."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"internal error: {reason}; run with --debug for the traceback"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``4.2 s``, ``3 min 12 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _about(seconds: float) -> str:
    """Seconds without a precision that they have not: ``70 s``, ``45 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{10 * round(seconds / 10)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
