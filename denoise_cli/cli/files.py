"""Which files a call reads and writes, settled before any work starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import UnreadableImage, UnwritableOutput, UsageError
from ..io import SUFFIXES, WRITTEN, check_suffix as check_known, is_folder, is_store, output_suffix

MARK = "_denoised"
STREAM = Path("-")  # standard input or output

Catch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Job:
    """One image: where it comes from and what is made of it."""

    input: Path
    output: Path
    reference: Path | None = None
    trace: Path | None = None

    def check(self, *, overwrite: bool) -> None:
        """Raise what can be known to go wrong without reading the image."""
        if self.output != STREAM:
            if self.output.is_dir() and not is_folder(self.output):
                raise UsageError(f"{self.output}: is a folder; give another -o")
            if self.output.exists() and not overwrite:
                raise UsageError(f"{self.output}: exists; give --overwrite or another -o")
            _check_folder(self.output.parent)
        if self.reference is not None and not self.reference.is_file():
            raise UnreadableImage(f"{self.reference}: no such file; --reference names clean images")


@dataclass(frozen=True)
class Found:
    """An image of a call: its path, and its place below the folder that was given."""

    path: Path
    place: Path


@dataclass(frozen=True)
class Search:
    """Which images a folder stands for.

    Attributes
    ----------
    recursive : bool
        Those of the folders below it, too; links to folders are not followed.
    patterns : sequence of str
        Shell patterns; an image must match one of them, if there are any: by its name, or by its
        place below the folder where the pattern has a slash.
    skip_marked : bool
        Leave out what looks like an earlier output beside its input.
    leave_out : path, optional
        A folder that is not searched: the one of the outputs.
    """

    recursive: bool = False
    patterns: Sequence[str] = ()
    skip_marked: bool = False
    leave_out: Path | None = None

    def expand(self, given: Path, catch: Catch = nullcontext) -> list[Found]:
        """The images a command-line input stands for: itself, or those of the folder, sorted.

        `catch` gives the context that a folder below it is looked into: one that cannot be read
        need not stop the rest.

        Raises
        ------
        UnreadableImage
            If it does not exist, cannot be listed, or holds no image.
        """
        if given == STREAM or given.is_file() or is_store(given):
            return [Found(given, Path(given.name))]
        if not given.is_dir():
            raise UnreadableImage(f"{given}: no such file or folder")
        found = [Found(path, path.relative_to(given)) for path in self._below(given, catch)]
        found = [one for one in found if self._wanted(one.place)]
        if not found:
            where = "in this folder or below" if self.recursive else "in this folder"
            raise UnreadableImage(f"{given}: no images {where}; {self._hint()}")
        return found

    def _below(self, folder: Path, catch: Catch) -> list[Path]:
        paths = list_images(folder)
        if self.recursive:
            for child in sorted(_entries(folder)):
                hidden = child.name.startswith(".")
                skipped = hidden or child.is_symlink() or is_store(child) or self._is_output(child)
                if child.is_dir() and not skipped:
                    with catch():
                        paths += self._below(child, catch)
        return paths

    def _is_output(self, folder: Path) -> bool:
        return self.leave_out is not None and folder.resolve() == self.leave_out.resolve()

    def _wanted(self, place: Path) -> bool:
        if self.skip_marked and place.stem.endswith(MARK):
            return False
        texts = {
            pattern: place.as_posix() if "/" in pattern else place.name for pattern in self.patterns
        }
        return not texts or any(fnmatch(text, pattern) for pattern, text in texts.items())

    def _hint(self) -> str:
        if self.patterns:
            return f"--pattern was {' '.join(self.patterns)}"
        return f"known are {known_suffixes()}"


def expand(given: Path) -> list[Path]:
    """The images a path stands for: itself, or those directly in the folder."""
    return [found.path for found in Search().expand(given)]


def list_images(folder: Path) -> list[Path]:
    """The files directly in `folder` whose suffix is known, sorted; hidden ones are left out."""
    found = [p for p in _entries(folder) if p.suffix.lower() in SUFFIXES and _is_image(p)]
    return sorted(path for path in found if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.is_file() or is_store(path)


def plan(
    found: Sequence[Found],
    *,
    several: bool,
    output: str | None,
    suffix: str | None = None,
    reference: Path | None = None,
    trace: Path | None = None,
) -> list[Job]:
    """One job for each image; `several` says that the call may have more than one.

    In a folder of outputs an image keeps its place; `suffix` replaces its own.

    Raises
    ------
    UsageError
        If two inputs map to one output, or an output is an input.
    """
    if several and reference is not None and not reference.is_dir():
        raise UsageError(f"{reference}: --reference must be a folder when there are several inputs")
    folder = output_folder(output, several=several)
    outputs = [_output(one, output, folder, suffix) for one in found]
    _refuse_collisions([one.path for one in found], outputs)
    stems = Counter(one.place.with_suffix("") for one in found)
    jobs = []
    for one, target in zip(found, outputs, strict=True):
        clean, traces = reference, trace
        if reference is not None and reference.is_dir():
            clean = _clean_of(reference / one.place)
        if trace is not None and several:
            stem = one.place.with_suffix("")
            traces = trace / (stem if stems[stem] == 1 else one.place)
        jobs.append(Job(one.path, target, clean, traces))
    return jobs


def parse_shard(text: str | None) -> tuple[int, int]:
    """``"2/8"`` -> (2, 8): the second of eight parts; without text the whole.

    Raises
    ------
    UsageError
        If it is not written so, or there is no such part.
    """
    if text is None:
        return 1, 1
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard {text!r} is not written I/N, such as 1/8")
    if not 1 <= int(index) <= int(count):
        raise UsageError(f"--shard {text!r}: I counts from 1 to N")
    return int(index), int(count)


def part(jobs: Sequence[Job], shard: tuple[int, int]) -> list[Job]:
    """Every N-th of the jobs, beginning with the I-th: shards are disjoint and about equal."""
    index, count = shard
    return list(jobs[index - 1 :: count])


def parse_format(text: str | None) -> str | None:
    """``"tiff"`` or ``".tif"`` -> the suffix of outputs.

    Raises
    ------
    UsageError
        If no format is called so, or it is only read.
    """
    if text is None:
        return None
    suffix = f".{text.lower().removeprefix('.')}"
    if suffix not in SUFFIXES:
        raise UsageError(
            f"--format {text!r} is no image format; known are {known_suffixes(WRITTEN)}"
        )
    check_known(Path(f"--format {suffix}"))
    return suffix


def check_suffix(output: Path) -> None:
    """Refuse an output whose format cannot be told from its name."""
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{output}: its suffix names no image format; known are {known_suffixes(WRITTEN)}"
        )
    check_known(output)


def make_folder(folder: Path) -> None:
    """Create the folder of an output, with those above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder}: cannot be created ({error.strerror})") from None


def known_suffixes(suffixes: frozenset[str] = SUFFIXES) -> str:
    """All known suffixes in one line."""
    return ", ".join(sorted(suffixes))


def output_folder(output: str | None, *, several: bool) -> Path | None:
    """The folder that -o names; None if it names a file or nothing."""
    if output is None:
        return None
    path = Path(output)
    if path == STREAM:
        if several:
            raise UsageError("-o - takes one image; several inputs need a folder")
        return None
    if (path.is_dir() and not is_folder(path)) or output.endswith(("/", os.sep)) or not path.suffix:
        return path
    if not several:
        check_suffix(path)
        return None
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{output}: -o must be a folder when there are several inputs")
    return path


def _output(found: Found, output: str | None, folder: Path | None, suffix: str | None) -> Path:
    if folder is not None:
        return folder / found.place.with_suffix(suffix or output_suffix(found.place))
    if output or found.path == STREAM:
        return Path(output) if output else STREAM
    path = found.path
    return path.with_name(f"{path.stem}{MARK}{suffix or output_suffix(path)}")


def _clean_of(named: Path) -> Path:
    """`named`, or the only image of its name in another format: that of a raw file is a PNG."""
    if named.is_file() or not named.parent.is_dir():
        return named
    others = [path for path in list_images(named.parent) if path.stem == named.stem]
    return others[0] if len(others) == 1 else named


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UnreadableImage(f"{folder}: cannot be listed ({error.strerror})") from None


def _refuse_collisions(paths: Sequence[Path], outputs: Sequence[Path]) -> None:
    inputs = {path.resolve() for path in paths}
    taken: dict[Path, Path] = {}
    for path, output in zip(paths, outputs, strict=True):
        if output == STREAM:
            continue
        target = output.resolve()
        if target in inputs:
            raise UsageError(f"{output}: is an input; give another -o")
        if target in taken:
            raise UsageError(f"{output}: both {taken[target]} and {path} would be written there")
        taken[target] = path


def _check_folder(folder: Path) -> None:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UnwritableOutput(f"{folder}: {existing} is no folder; give another -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UnwritableOutput(f"{folder}: not writable; give another -o")
