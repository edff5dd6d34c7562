"""The steps of an adaptation as pictures, numbers and one sheet to look at."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import UnwritableOutput
from .image import upright
from .metrics import psnr
from .sheet import busiest, draw_sheet

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Array = npt.NDArray[Any]

REGION = 1024  # side of what is traced of a larger picture, in pixels
SHEET_STEPS = 12


class Trace:
    """Writes each step of an adaptation into a folder.

    ``step_00_denoised.png`` and ``step_00_reconstruction.png`` (8 bit, upright) as they come;
    `close` adds ``trace.csv`` and ``contact_sheet.png``. The folder is created with the first
    picture; the steps of an earlier trace in it are removed then.

    Parameters
    ----------
    directory : path
        Where to write.
    reference : ndarray, optional
        The clean picture (Y, X, C) on 0..1, of the whole picture's size: adds a PSNR to each step.
    orientation : int
        EXIF orientation of the picture, 1..8.

    Raises
    ------
    UnwritableOutput
        From any method, if the folder cannot be written.
    """

    def __init__(
        self, directory: str | Path, *, reference: Array | None = None, orientation: int = 1
    ) -> None:
        self.directory = Path(directory)
        self.orientation = orientation
        self._reference = None if reference is None else self._part(reference)
        self._noisy_psnr: float | None = None
        self._rows: list[dict[str, float | None]] = []
        self._started = False

    def region(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The part of a picture of `shape` (Y, X) that is traced.

        The whole picture, or the central 1024 x 1024 pixels of a larger one: every step costs a
        prediction of it.
        """
        rows, columns = (slice(max(n - REGION, 0) // 2, None) for n in shape)
        return (
            slice(rows.start, rows.start + min(shape[0], REGION)),
            slice(columns.start, columns.start + min(shape[1], REGION)),
        )

    def noisy(self, picture: Array) -> None:
        """Note the noisy picture (Y, X, C) on 0..1, whole; written as ``noisy.png``."""
        part = self._part(picture)
        if self._reference is not None:
            self._noisy_psnr = psnr(self._reference, part)
            self._save("clean.png", self._reference)
        self._save("noisy.png", part)

    def record(
        self, step: int, denoised: Array, reconstruction: Array | None, **numbers: float | None
    ) -> None:
        """Write the pictures of a step and note its numbers.

        Parameters
        ----------
        step : int
            0 is the unadapted network.
        denoised, reconstruction : ndarray
            (Y, X, C) on 0..1, C 1 or 3, of `region`; the reconstruction may be missing.
        **numbers : float or None
            Losses and scores of the step; each name is a column of ``trace.csv``.
        """
        self._save(f"step_{step:02d}_denoised.png", denoised)
        if reconstruction is not None:
            self._save(f"step_{step:02d}_reconstruction.png", reconstruction)
        score = None if self._reference is None else psnr(self._reference, denoised)
        self._rows.append({"step": step, **numbers, "psnr": score})

    def close(self, kept_step: int) -> None:
        """Write ``trace.csv`` and ``contact_sheet.png``; `kept_step` is marked in both."""
        for row in self._rows:
            row["kept"] = int(row["step"] == kept_step)
        with self._writing():
            self._write_table()
            self._sheet(kept_step).save(self.directory / "contact_sheet.png")

    def _part(self, picture: Array) -> Array:
        rows, columns = self.region((picture.shape[0], picture.shape[1]))
        return picture[rows, columns]

    def _save(self, name: str, picture: Array) -> None:
        from PIL import Image

        samples = upright(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), self.orientation)
        if samples.shape[-1] == 1:
            samples = samples[..., 0]
        with self._writing():
            if not self._started:
                self._clear()
            Image.fromarray(np.ascontiguousarray(samples)).save(self.directory / name)

    def _clear(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for old in self.directory.glob("step_[0-9]*_*.png"):
            if old.stem.endswith(("_denoised", "_reconstruction")):
                old.unlink()
        self._started = True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnwritableOutput(
                f"{self.directory}: the trace cannot be written ({reason}); give another --trace"
            ) from None

    def _write_table(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        losses = [name for name in names if name.startswith("loss")]
        last = ["psnr", "kept"]
        others = [name for name in names if name not in ("step", *losses, *last)]
        with (self.directory / "trace.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", *losses, *others, *last], restval="")
            writer.writeheader()
            for row in self._rows:
                writer.writerow({k: v for k, v in row.items() if v is not None and v == v})

    def _sheet(self, kept_step: int) -> Picture:
        """Noisy, steps and clean side by side: the picture, a zoomed crop, its numbers."""
        entries: list[tuple[str, list[str], bool]] = []
        if (self.directory / "noisy.png").is_file():
            entries.append(("noisy.png", ["noisy", _decibels(self._noisy_psnr)], False))
        for row in _chosen(self._rows, kept_step):
            name = f"step_{int(row['step'] or 0):02d}_denoised.png"
            entries.append((name, _caption(row), bool(row["kept"])))
        if self._reference is not None:
            entries.append(("clean.png", ["clean", ""], False))
        kept = self._open(f"step_{kept_step:02d}_denoised.png")
        return draw_sheet([(self._open(n), text, k) for n, text, k in entries], busiest(kept))

    def _open(self, name: str) -> Picture:
        from PIL import Image

        with Image.open(self.directory / name) as picture:
            return picture.convert("RGB")


def _decibels(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.2f} dB"


def _caption(row: dict[str, float | None]) -> list[str]:
    step = "unadapted" if row["step"] == 0 else f"step {row['step']}"
    gain = row.get("estimated_gain_db")
    numbers = [_decibels(row["psnr"])]
    if gain is not None and math.isfinite(gain):
        numbers.append(f"estimated {gain:+.2f} dB")
    title = f"{step} (kept)" if row["kept"] else step
    return [title, ", ".join(filter(None, numbers))]


def _chosen(rows: list[dict[str, Any]], kept_step: int) -> list[dict[str, Any]]:
    """The rows that the sheet shows: all of a few; first, last, kept and some between of many."""
    if len(rows) <= SHEET_STEPS:
        return rows
    indices = {round(i) for i in np.linspace(0, len(rows) - 1, SHEET_STEPS - 1)}
    return [row for i, row in enumerate(rows) if i in indices or row["step"] == kept_step]
