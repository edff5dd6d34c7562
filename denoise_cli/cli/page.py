"""The page of --report: one file with everything in it, which needs no network to be seen."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import UnwritableOutput, UsageError
from ..io.temporary import moved_into
from .figures import Figure, polyline
from .files import make_folder
from .report import Report, duration

WIDTH, HEIGHT = 220, 90  # of a chart, in its own units
SHOWN = 200  # images with pictures; of more, the page says the numbers only


def check(path: Path, *, overwrite: bool, again: bool = False) -> None:
    """Raise what can be known to go wrong with the page before any work.

    A page that an earlier call wrote gives way to that of a call that goes on with it (`again`).
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: --report writes a page; call it NAME.html")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give another --report")
    if path.exists() and not overwrite and not (again and _is_page(path)):
        raise UsageError(f"{path}: exists; give --overwrite or another --report")


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return b'<meta name="generator" content="denoise' in file.read(500)


class Page:
    """Collects figures and writes the page on leaving, also after an interrupt.

    Parameters
    ----------
    path : path or None
        Where to write; None for no page.
    report : Report
        Knows what failed.
    """

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path, self._report = path, report
        self._entries: list[dict[str, Any]] = []

    def __call__(self, figure: Figure) -> None:
        """Take the figure of an image."""
        entry = _entry(figure)
        if len(self._entries) >= SHOWN:
            entry = {key: entry[key] for key in ("input", "name", "facts")}
        self._entries.append(entry)

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._path is not None and (self._entries or self._report.failures):
            self._write(self._path)
            self._report.line(f"report: {self._path}")

    def _write(self, path: Path) -> None:
        make_folder(path.parent)
        try:
            with moved_into(path) as temporary:
                temporary.write_text(self._text(), encoding="utf-8")
        except OSError as error:
            raise UnwritableOutput(
                f"{path}: cannot be written ({error.strerror}); give another --report"
            ) from None

    def _text(self) -> str:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        from .. import __version__

        environment = Environment(
            loader=PackageLoader("denoise_cli.cli"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        text: str = environment.get_template("report.html").render(
            # Several processes are done in any order.
            entries=sorted(self._entries, key=lambda entry: str(entry["input"])),
            failures=self._report.failures,
            skipped=self._report.skipped,
            version=__version__,
            date=time.strftime("%Y-%m-%d %H:%M"),
            command=" ".join(["denoise", *sys.argv[1:]]),
            width=WIDTH,
            height=HEIGHT,
        )
        return text


def _entry(figure: Figure) -> dict[str, Any]:
    """What the template says of an image."""
    return {
        "input": str(figure.record["input"]),
        "name": Path(str(figure.record["input"])).name,
        "figure": figure,
        "facts": _facts(figure),
        "charts": [chart for chart in (_level(figure), _spectra(figure), _curve(figure)) if chart],
    }


def _facts(figure: Figure) -> list[tuple[str, str]]:
    record, noise = figure.record, figure.noise
    method = str(record["method"])
    if record["steps"]:
        method += f", step {record['kept_step']} of {record['steps']} kept"
    facts = [
        ("Method", method),
        ("Why", str(record["reason"])),
        ("Weights", str(record["weights"])),
    ]
    if record["gain_db"] is not None:
        facts.append(("Adaptation's gain", f"about {record['gain_db']:+.1f} dB (estimated)"))
    if record.get("psnr") is not None and record.get("psnr_input") is not None:
        facts.append(("PSNR", f"{record['psnr_input']:.2f} → {record['psnr']:.2f} dB"))
    facts += noise_facts(noise)
    shape = " × ".join(str(n) for n in record["shape"])
    facts.append(
        ("Image", f"{shape}, {record['dtype']}" + (f"; {figure.plane}" * bool(figure.plane)))
    )
    took = f"{duration(record['seconds'])}, {record['seconds_adapt']:.1f} s of them adapting"
    facts.append(("Time", f"{took}; {record['device']} {record['precision']}"))
    return facts


def noise_facts(noise: Any) -> list[tuple[str, str]]:
    """A `NoiseReport` in words, a line each."""
    facts = []
    if noise.sigma is None:
        facts.append(("Noise", "not measured: too small, or flat nowhere"))
    else:
        level = f"σ {noise.sigma:.4f} ({255 * noise.sigma:.1f} of 255)"
        facts.append(("Noise", f"{level}; variance {noise.shot:.2g} · x + {noise.read:.2g}"))
    if noise.across:
        pair = f"{noise.across[0]:.2f} across, {noise.down[0]:.2f} down"
        kind = (
            f"correlated like white noise blurred by {noise.blur:.2f} px" if noise.blur else "white"
        )
        facts.append(("Correlation", f"{kind} (next pixel: {pair})"))
    if noise.bands:
        facts.append(("Bands", f"{' and '.join(noise.bands)} have noise in common"))
    if noise.color is not None:
        facts.append(("Colors", f"the channels' noise correlates by {noise.color:.2f}"))
    if noise.impulses:
        facts.append(("Impulses", f"{100 * noise.impulses:.3g} % of the samples"))
    if noise.grid is not None:
        facts.append(("JPEG grid", f"blockiness {noise.blockiness:.2f}, from {noise.grid}"))
    if noise.clipped_low or noise.clipped_high:
        low, high = 100 * noise.clipped_low, 100 * noise.clipped_high
        facts.append(("Clipped", f"{low:.3g} % at the least, {high:.3g} % at the greatest value"))
    return facts


def _level(figure: Figure) -> dict[str, Any] | None:
    noise = figure.noise
    if noise.sigma is None or not noise.deviation:
        return None
    points = sorted(zip(noise.brightness, noise.deviation, strict=True))
    top = 1.15 * max(noise.deviation)
    line = [
        (x / 20, math.sqrt(max((noise.shot or 0) * x / 20 + (noise.read or 0), 0)))
        for x in range(21)
    ]
    return _chart(
        "Noise against brightness",
        [("before", points, True), ("fit", line, False)],
        x=(0, 1),
        y=(0, max(top, line[-1][1])),
        labels=("dark", "bright", f"σ {max(top, line[-1][1]):.3f}"),
    )


def _spectra(figure: Figure) -> dict[str, Any] | None:
    noise = figure.noise
    curves: list[tuple[str, list[tuple[float, float]], bool]] = []
    measured = [value * (noise.sigma or 0) ** 2 for value in noise.spectrum]
    for name, power in (("before", measured), ("removed", figure.removed)):
        if any(power):
            step = 0.5 / (len(power) - 1)
            decibels = [(i * step, 10 * math.log10(max(v, 1e-9))) for i, v in enumerate(power)]
            curves.append((name, decibels[3:], False))  # coarser ones are not resolved
    if not curves:
        return None
    values = [value for _, curve, _ in curves for _, value in curve]
    low, high = min(values) - 3, max(values) + 3
    labels = ("coarse", "fine (0.5 / px)", f"{high:.0f} dB")
    return _chart("Spectrum of the noise", curves, x=(0, 0.5), y=(low, high), labels=labels)


def _curve(figure: Figure) -> dict[str, Any] | None:
    steps = [row for row in figure.curve if row.get("estimated_gain_db") is not None]
    name, title = "estimated_gain_db", "Adaptation: estimated gain"
    if not steps:
        losses = [key for row in figure.curve for key in row if key.startswith("loss")]
        if not losses:
            return None
        name, title = losses[0], "Adaptation: loss"
        steps = [row for row in figure.curve if row.get(name) is not None]
    points = [(float(row["step"] or 0), float(row[name] or 0)) for row in steps]
    points = [point for point in points if math.isfinite(point[1])]
    if len(points) < 2:
        return None
    values = [value for _, value in points]
    margin = 0.1 * (max(values) - min(values)) + 1e-6
    unit = " dB" if name.endswith("_db") else ""
    chart = _chart(
        title,
        [("before", points, True)],
        x=(points[0][0], points[-1][0]),
        y=(min(values) - margin, max(values) + margin),
        labels=(f"step {points[0][0]:.0f}", f"{points[-1][0]:.0f}", f"{max(values):.2g}{unit}"),
    )
    kept = figure.record["kept_step"]
    chart["kept"] = next(
        (
            dot
            for dot, (step, _) in zip(chart["lines"][0]["dots"], points, strict=True)
            if step == kept
        ),
        None,
    )
    return chart


def _chart(
    title: str,
    curves: Sequence[tuple[str, Sequence[tuple[float, float]], bool]],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    labels: tuple[str, str, str],
) -> dict[str, Any]:
    """A chart for the template: lines by name, with dots where values were measured."""
    lines: list[Mapping[str, Any]] = []
    for name, values, dotted in curves:
        points = polyline(values, x=x, y=y, width=WIDTH, height=HEIGHT)
        dots = [point.split(",") for point in points.split()] if dotted else []
        lines.append({"name": name, "points": points, "dots": dots})
    return {"title": title, "lines": lines, "labels": labels, "kept": None}
