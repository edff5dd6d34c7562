"""Which files a call reads and writes, settled before any work starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnreadableImage, UnwritableOutput, UsageError
from ..io import SUFFIXES, output_suffix

MARK = "_denoised"


@dataclass(frozen=True)
class Job:
    """One image: where it comes from and what is made of it."""

    input: Path
    output: Path
    reference: Path | None = None
    trace: Path | None = None

    def check(self, *, overwrite: bool) -> None:
        """Raise what can be known to go wrong without reading the image."""
        if self.output.is_dir():
            raise UsageError(f"{self.output}: is a folder; give another -o")
        if self.output.exists() and not overwrite:
            raise UsageError(f"{self.output}: exists; give --overwrite or another -o")
        _check_folder(self.output.parent)
        if self.reference is not None and not self.reference.is_file():
            raise UnreadableImage(f"{self.reference}: no such file; --reference names clean images")


def expand(given: Path, *, beside: bool) -> list[Path]:
    """The images a command-line input stands for: itself, or those directly in the folder.

    With `beside` (outputs are written beside the inputs) earlier outputs are left out.
    """
    if given.is_file():
        return [given]
    if not given.is_dir():
        raise UnreadableImage(f"{given}: no such file or folder")
    found = list_images(given)
    if beside:
        found = [path for path in found if not path.stem.endswith(MARK)]
    if not found:
        raise UnreadableImage(f"{given}: no images in this folder; known are {known_suffixes()}")
    return found


def list_images(folder: Path) -> list[Path]:
    """The files directly in `folder` whose suffix is known, sorted; hidden ones are left out."""
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    except OSError as error:
        raise UnreadableImage(f"{folder}: cannot be listed ({error.strerror})") from None
    return sorted(path for path in found if not path.name.startswith("."))


def plan(
    paths: Sequence[Path],
    *,
    several: bool,
    output: str | None,
    reference: Path | None = None,
    trace: Path | None = None,
) -> list[Job]:
    """One job for each input; `several` says that the call may have more than one.

    Raises
    ------
    UsageError
        If two inputs map to one output, or an output is an input.
    """
    if several and reference is not None and not reference.is_dir():
        raise UsageError(f"{reference}: --reference must be a folder when there are several inputs")
    folder = _output_folder(output, several)
    outputs = [_output(path, output, folder) for path in paths]
    _refuse_collisions(paths, outputs)
    stems = Counter(path.stem for path in paths)
    jobs = []
    for path, target in zip(paths, outputs, strict=True):
        clean, traces = reference, trace
        if reference is not None and reference.is_dir():
            clean = reference / path.name
        if trace is not None and several:
            traces = trace / (path.stem if stems[path.stem] == 1 else path.name)
        jobs.append(Job(path, target, clean, traces))
    return jobs


def check_suffix(output: Path) -> None:
    """Refuse an output whose format cannot be told from its name."""
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{output}: its suffix names no image format; known are {known_suffixes()}"
        )


def make_folder(folder: Path) -> None:
    """Create the folder of an output, with those above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutput(f"{folder}: cannot be created ({error.strerror})") from None


def known_suffixes() -> str:
    """All known suffixes in one line."""
    return ", ".join(sorted(SUFFIXES))


def _output_folder(output: str | None, several: bool) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)) or not path.suffix:
        return path
    if not several:
        check_suffix(path)
        return None
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{output}: -o must be a folder when there are several inputs")
    return path


def _output(path: Path, output: str | None, folder: Path | None) -> Path:
    if folder is not None:
        return folder / path.with_suffix(output_suffix(path)).name
    return Path(output) if output else path.with_name(f"{path.stem}{MARK}{output_suffix(path)}")


def _refuse_collisions(paths: Sequence[Path], outputs: Sequence[Path]) -> None:
    inputs = {path.resolve() for path in paths}
    taken: dict[Path, Path] = {}
    for path, output in zip(paths, outputs, strict=True):
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
