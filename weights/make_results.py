"""Write weights/RESULTS.md: every method and classical denoisers on every kind of noise.

python weights/make_results.py DATA [CELLS] [--limit N] [--crop SIDE] [--rows TEXT]
    [--skip M=ROWS] [--papers]

DATA holds the test sets (see SETS), CELLS is a file of JSON lines that finished cells are kept in,
by default the one beside the page: the script measures what is missing there and writes the page
anew, so that after a change only the lines of the cells it concerns are deleted. All numbers come
from `denoise evaluate --json`, but for those of PRINTED.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise_cli import __version__, io
from denoise_cli.cli.competitors import BASELINES
from denoise_cli.cli.pairs import match, spread
from denoise_cli.methods import METHODS

PAGE = Path(__file__).with_name("RESULTS.md")
CELLS = Path(__file__).with_name("results.jsonl")
KEPT = ("image", "weights", "psnr_noisy", "psnr", "ssim", "seconds")  # of what evaluate tells
SPEED, GAIN = "results_speed.png", "results_gain.png"
COLUMNS = ["none", *(m for m in METHODS if m != "none"), "ttt-mim:ttt-mim-gaussian", *BASELINES]

SETS = {
    "CSet9": ("CSet9", None),
    "McMaster": ("McMaster", None),
    "CBSD68": ("CBSD68", None),
    "PolyU": ("PolyU", "PolyU"),
    "SIDD": ("SIDD", "SIDD"),
    "CC15": ("CC15", "CC15"),
    "FMDD": ("FMDD/gt", "FMDD/raw"),
}
# Variances of 0.01 and 0.02 on 0..1 are standard deviations of 25.5 and 36.06 on 0..255.
SYNTHETIC = {
    **{f"gaussian:{sigma}": ("CSet9", "McMaster", "CBSD68") for sigma in (10, 25, 50)},
    "gaussian:25.5": ("CBSD68",),
    "gaussian:36.06": ("CBSD68",),
    **{f"poisson:{peak}": ("CBSD68",) for peak in (10, 25, 50)},
    "speckle:0.1": ("CBSD68",),
    "salt-pepper:0.02": ("CBSD68",),
    "salt-pepper:0.05": ("CBSD68",),
    "gaussian:15+salt-pepper:0.02,1": ("CBSD68",),
    "poisson-gaussian:0.01,0.0004": ("CBSD68",),
    "correlated:25,1": ("CBSD68",),
    "gaussian:15+poisson:30+jpeg:80": ("CBSD68",),
}
REAL = ("PolyU", "SIDD", "CC15", "FMDD")


@dataclass(frozen=True)
class Row:
    """A set of pictures and a noise; None for pictures that are noisy by themselves."""

    name: str
    noise: str | None

    @property
    def title(self) -> str:
        return f"{self.name}, {self.noise}" if self.noise else self.name


@dataclass(frozen=True)
class Printed:
    """A figure that the authors of a paper print, and what is measured for comparison.

    Attributes
    ----------
    psnr : str
        In dB.
    note : str
        How far it can be compared.
    row : Row or None
        Pictures like theirs, all that there are.
    crop : int or None
        Of these only the central part.
    """

    paper: str
    what: str
    psnr: str
    note: str = ""
    row: Row | None = None
    crop: int | None = None


# Those of TTT-MIM are of the authors' notebook, which repeats Table 1 of the paper; results move by
# 0.1 dB with the random mask.
PRINTED = [
    Printed("TTT-MIM", "SIDD, central 448 x 448 pixels", "33.52",
            "learning rate and mask chosen for the set; 2 of its pictures here", Row("SIDD", None),
            448),
    Printed("TTT-MIM", "PolyU", "38.45", "likewise; 57 of its 100 pictures here",
            Row("PolyU", None)),
    Printed("TTT-MIM", "FMDD, central 256 x 256 pixels", "31.77",
            "likewise; printed as 44.69: the pictures were scaled by ImageNet's deviation before "
            "scoring, which adds 12.92 dB; 24 of its 48 pictures here", Row("FMDD", None), 256),
    Printed("TTT-MIM", "Gaussian, variance 0.01", "29.78", "ImageNet, noise clipped and 8 bits"),
    Printed("TTT-MIM", "Gaussian, variance 0.02", "27.44", "ImageNet, noise clipped and 8 bits"),
    Printed("TTT-MIM", "salt & pepper 0.05", "25.91", "ImageNet"),
    Printed("TTT-MIM", "Poisson, peak 256", "32.84", "ImageNet; much weaker than the rows above"),
    Printed("MPI", "CSet9, sigma 10", "34.95", "1000 steps", Row("CSet9", "gaussian:10")),
    Printed("MPI", "CSet9, sigma 25", "31.60", "1000 steps", Row("CSet9", "gaussian:25")),
    Printed("MPI", "CSet9, sigma 50", "28.15", "1000 steps", Row("CSet9", "gaussian:50")),
    Printed("MPI", "McMaster, sigma 25", "31.90", "1000 steps", Row("McMaster", "gaussian:25")),
    Printed("MPI", "sigma 25", "33.82", "one picture of 512 x 512, 200 steps, SSIM 0.919, 13.6 s "
            "on a GPU: the authors' notebook"),
    Printed("Meta-transfer", "real photos", "+0.015 to +0.03",
            "the gain by adapting; no weights exist"),
    Printed("Masked Image Training", "", "", "prints 8-bit PSNR without a border of one pixel; its "
            "output is random by 0.01 dB"),
    Printed("GainTuning", "", "", "gray pictures only, one network for each noise range"),
]  # fmt: skip
COMPARED = ("none", "auto")  # columns that are measured for comparison with them


def rows() -> list[Row]:
    made = [Row(name, noise) for noise, names in SYNTHETIC.items() for name in names]
    return made + [Row(name, None) for name in REAL]


def main() -> None:
    arguments = _arguments()
    cells = _read(arguments.cells)
    jobs = [
        (row, [c for c in COLUMNS if _wanted(c, row, arguments.skip)], arguments.limit,
         arguments.crop)
        for row in rows()
    ]  # fmt: skip
    if arguments.papers:
        jobs += [(p.row, list(COMPARED), None, p.crop) for p in PRINTED if p.row]
    for row, wanted, limit, crop in jobs:
        if not any(text in row.title for text in arguments.rows.split(";")):
            continue
        missing = [column for column in wanted if (row.title, column, limit, crop) not in cells]
        if missing:
            for column, records in _measure(row, missing, arguments.data, limit, crop):
                kept = [{key: record.get(key) for key in KEPT} for record in records]
                cell = {"row": row.title, "column": column, "limit": limit, "crop": crop,
                        "records": kept}  # fmt: skip
                with arguments.cells.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(cell) + "\n")
                print(row.title, column, len(records), flush=True)
    found = _read(arguments.cells)
    mine = {
        (row, column): records
        for (row, column, limit, crop), records in found.items()
        if (limit, crop) == (arguments.limit, arguments.crop)
    }
    _plots(mine, arguments.output.parent)
    page = _page(mine, arguments) + _papers(found)
    arguments.output.write_text(page, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of the test sets")
    parser.add_argument(
        "cells", type=Path, nargs="?", default=CELLS, help="JSON lines of finished cells"
    )
    parser.add_argument("--limit", type=int, help="pictures a row, evenly spread (default: all)")
    parser.add_argument("--crop", type=int, help="only the central SIDE x SIDE pixels of each")
    parser.add_argument("--rows", default="", help="only rows with one of these texts, by ;")
    parser.add_argument(
        "--papers", action="store_true",
        help="measure the whole sets that papers print figures for, too",
    )  # fmt: skip
    parser.add_argument(
        "--skip", action="append", default=[], metavar="METHOD=TEXT;TEXT",
        help="measure a slow method on rows with one of these texts only",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    return parser.parse_args()


def _read(file: Path) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {(c["row"], c["column"], c["limit"], c["crop"]): c["records"] for c in lines}


def _wanted(column: str, row: Row, skip: list[str]) -> bool:
    rules = dict(rule.split("=", 1) for rule in skip)
    return column not in rules or any(text in row.title for text in rules[column].split(";"))


def _measure(
    row: Row, columns: list[str], data: Path, limit: int | None, crop: int | None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The records of each column, from one run of `denoise evaluate` for each checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(row, folder, data, limit, crop)
        source = ["--noise", row.noise] if row.noise else ["--noisy", str(folder / "noisy")]
        groups: dict[str, list[str]] = {}
        for column in columns:
            groups.setdefault(column.partition(":")[2], []).append(column)
        for weights, group in groups.items():
            command = [sys.executable, "-m", "denoise_cli", "evaluate", "--json"]
            command += ["--clean", str(folder / "clean"), *source]
            command += [part for c in group for part in ("-m", c.partition(":")[0])]
            command += ["-w", weights] if weights else []
            process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if process.returncode:
                print(f"{row.title}: exit code {process.returncode}", file=sys.stderr)
                continue
            records = [json.loads(line) for line in process.stdout.splitlines()]
            for column in group:
                method = column.partition(":")[0]
                yield column, [r for r in records if r.get("method") == method]


def _prepare(row: Row, folder: Path, data: Path, limit: int | None, crop: int | None) -> None:
    """The row's pictures as PNG in ``folder/clean`` and ``folder/noisy``, with equal names."""
    clean, noisy = (None if s is None else data / s for s in SETS[row.name])
    pairs: list[tuple[Path | None, Path]]
    assert clean is not None
    if noisy is None:
        pairs = [(None, path) for path in _images(clean)]
    elif row.name == "SIDD":
        pairs = [(p, p.with_name(p.name.replace("NOISY", "GT"))) for p in _images(noisy)
                 if p.name.startswith("NOISY")]  # fmt: skip
    else:
        pairs = list(match(_images(noisy), _images(clean)))
    for index, (first, second) in enumerate(spread(pairs, limit)):
        name = f"{index:03d}_{second.stem}.png"
        for path, place in ((first, "noisy"), (second, "clean")):
            if path is not None:
                image = io.read(path)
                (folder / place).mkdir(exist_ok=True)
                _write(_centre(image.samples, crop), folder / place / name)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in io.SUFFIXES)


def _centre(samples: np.ndarray, side: int | None) -> np.ndarray:
    if side is None:
        return samples
    y, x = (max(n - side, 0) // 2 for n in samples.shape[:2])
    return samples[y : y + side, x : x + side]


def _write(samples: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(samples)).save(path)


def _pictures(records: list[dict[str, Any]]) -> int:
    """Of how many pictures `records` are: some are the mean of several, of an older page."""
    return sum(record.get("pictures", 1) for record in records)


def _mean(records: list[dict[str, Any]], key: str) -> float:
    values = [record[key] for record in records if record[key] is not None]
    return float(np.mean(values)) if values else float("nan")


Cells = dict[tuple[str, str], list[dict[str, Any]]]


def _titles(cells: Cells) -> list[str]:
    """Of the rows that have cells, in the order of the page."""
    return [row.title for row in rows() if any(row.title == title for title, _ in cells)]


def _page(cells: Cells, arguments: argparse.Namespace) -> str:
    titles = _titles(cells)
    columns = [c for c in COLUMNS if any(c == column for _, column in cells)]
    counts = sorted({_pictures(records) for records in cells.values()})
    size = f"the central {arguments.crop} x {arguments.crop} pixels of" if arguments.crop else ""
    few = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    options = [f"--{n} {getattr(arguments, n)}" for n in ("limit", "crop") if getattr(arguments, n)]
    options += ["--papers"] if arguments.papers else []
    options += [f"--skip '{rule}'" for rule in arguments.skip]
    parts = [
        "# Results\n",
        "Written by `weights/make_results.py` from `denoise evaluate --json`:\n",
        f"```sh\npython weights/make_results.py DATA {' '.join(options)}\n```\n",
        f"denoise {__version__}, {platform.machine()}, {os.cpu_count()} cores, shared with other "
        f"work while this ran: compare seconds within a row only. Each cell is the mean over {few} "
        f"pictures ({size or 'whole'} each): **too few for differences below some tenths of a dB "
        "to mean anything**.\n"
        if counts[-1] < 9
        else f"denoise {__version__}, {few} pictures.\n",
        "Every method runs at its defaults and with its default checkpoint, but for "
        "`ttt-mim:ttt-mim-gaussian`, which names the checkpoint. `nlm`, `wavelet` and `bm3d` are "
        "non-local means and BayesShrink of scikit-image and the `bm3d` package, with the noise "
        "level that scikit-image estimates from the picture. Noise is neither clipped nor rounded; "
        "PSNR is of the result clipped to 0..1. An empty cell was not measured.\n",
        "## PSNR in dB / SSIM\n",
        _table(titles, columns, cells, _score, noisy=True),
        "Best PSNR of a row in bold; in brackets the number of pictures.\n",
        "## Seconds a picture\n",
        _table(titles, columns, cells, _seconds),
        "A method without seconds here but with PSNR above was not timed as the others of the row "
        "were; most such PSNR are those of an older page.\n",
        f"![Mean PSNR over the rows that all methods share, against seconds]({SPEED})\n",
        "## What adaptation gains\n",
        "PSNR with adaptation minus PSNR of `none` on the same picture; a dot is a picture.\n",
        f"![Gain of each adaptation on each picture]({GAIN})\n",
    ]
    return "\n".join(parts)


def _papers(cells: dict[tuple[Any, ...], list[dict[str, Any]]]) -> str:
    """What the papers print, beside what was measured on the same pictures or parts of them."""
    lines = [
        "\n## What the papers' authors print\n",
        "Beside it `none` and `auto` on all pictures of that set that there are, whole but where "
        "the row says otherwise; in brackets how many. Noise and scoring of the other papers "
        "differ, as the last column says, so that nothing is set beside their figures.\n",
        f"| paper | row | PSNR in dB | {' | '.join(COMPARED)} | note |",
        "|---" * (4 + len(COMPARED)) + "|",
    ]
    for entry in PRINTED:
        measured = ["" for _ in COMPARED]
        if entry.row:
            keys = [(entry.row.title, column, None, entry.crop) for column in COMPARED]
            measured = [
                f"{_mean(cells[key], 'psnr'):.2f} [{_pictures(cells[key])}]" if key in cells else ""
                for key in keys
            ]
        line = [entry.paper, entry.what, entry.psnr, *measured, entry.note]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines) + "\n"


def _score(records: list[dict[str, Any]], best: float) -> str:
    psnr = _mean(records, "psnr")
    text = f"{psnr:.2f}"
    return f"{f'**{text}**' if psnr == best else text} / {_mean(records, 'ssim'):.3f}"


def _seconds(records: list[dict[str, Any]], best: float) -> str:
    seconds = _mean(records, "seconds")
    return "" if np.isnan(seconds) else f"{seconds:.2f}"


def _table(
    titles: list[str], columns: list[str], cells: Cells, show: Any, noisy: bool = False
) -> str:
    heads = ["noise", *(["noisy"] if noisy else []), *columns]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for title in titles:
        found = {c: cells[title, c] for c in columns if (title, c) in cells}
        best = max(_mean(records, "psnr") for records in found.values())
        first = next(iter(found.values()))
        line = [f"{title} [{_pictures(first)}]"]
        line += [f"{_mean(first, 'psnr_noisy'):.2f}"] if noisy else []
        line += [show(found[c], best) if c in found else "" for c in columns]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines) + "\n"


def _plots(cells: Cells, folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = _titles(cells)
    columns = [c for c in COLUMNS if any(c == column for _, column in cells)]
    most = max(sum((t, c) in cells for t in titles) for c in columns)
    shared = [c for c in columns if sum((t, c) in cells for t in titles) == most]
    common = [t for t in titles if all((t, c) in cells for c in shared)]
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for column in shared:
        taken = [_mean(cells[t, column], "seconds") for t in common]
        if np.isnan(taken).any():
            continue
        seconds = float(np.mean(taken))
        psnr = float(np.mean([_mean(cells[t, column], "psnr") for t in common]))
        axes.plot(seconds, psnr, "o", color="black")
        axes.annotate(column, (seconds, psnr), xytext=(5, 5), textcoords="offset points")
    axes.set(xscale="log", xlabel="seconds a picture", ylabel="PSNR in dB")
    axes.set_title(f"mean over: {'; '.join(common)}", loc="left", fontsize=9, wrap=True)
    axes.margins(0.2)
    figure.savefig(folder / SPEED, dpi=100, metadata={"Software": None})
    pyplot.close(figure)

    adapting = [c for c in columns if c != "none" and any(_gains(cells, t, c) for t in titles)]
    figure, axes = pyplot.subplots(figsize=(7, 0.3 * len(titles) + 1.2), layout="constrained")
    for offset, column in enumerate(adapting):
        points = [(y, gain) for y, t in enumerate(titles) for gain in _gains(cells, t, column)]
        heights = [y + 0.2 * (offset - (len(adapting) - 1) / 2) for y, _ in points]
        axes.plot([gain for _, gain in points], heights, "o", alpha=0.7, label=column)
    axes.axvline(0, color="gray", linewidth=1)
    axes.set(yticks=range(len(titles)), yticklabels=titles, xlabel="gain in dB")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(folder / GAIN, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def _gains(cells: Cells, title: str, column: str) -> list[float]:
    """Against the same network unadapted: other checkpoints have no such column."""
    plain = {(r["image"], r["weights"]): r["psnr"] for r in cells.get((title, "none"), [])}
    found = [((r["image"], r["weights"]), r["psnr"]) for r in cells.get((title, column), [])]
    return [psnr - plain[key] for key, psnr in found if key in plain]


if __name__ == "__main__":
    main()
