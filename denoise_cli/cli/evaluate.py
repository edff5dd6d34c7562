"""`denoise evaluate`: methods against clean images, as a table of PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from ..errors import UsageError
from . import competitors, options
from .report import Report

if TYPE_CHECKING:
    from .competitors import Competitor
    from .pairs import Pair

Record = dict[str, Any]
SCORES = ("psnr_noisy", "psnr", "ssim", "seconds")


def evaluate(
    clean: options.CleanFolder,
    noisy: options.NoisyFolder = None,
    noise: options.Noises = None,
    method: options.Methods = None,
    weights: options.Weights = None,
    offline: options.Offline = False,
    steps: options.Steps = None,
    option: options.MethodOptions = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    seed: options.Seed = 0,
    limit: options.Limit = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare methods on noisy images whose clean versions are known.

    With --noise, noise is added to each clean image in floating point, neither clipped nor
    rounded; it depends on --seed and the file name alone. With --noisy, files are paired by name:
    the same stem, or X_real with X_mean, or X_3 (any number) with X. A file without a partner is
    an error.

    PSNR is measured on the result clipped to 0..1 (peak 1), over the whole image without cutting
    borders; SSIM is scikit-image's structural_similarity with its defaults.

    Besides the methods there are nlm (non-local means), wavelet (BayesShrink) and, where its
    package is installed, bm3d: classical denoisers that estimate the noise level of each image.
    """
    if (noisy is None) == (not noise):
        raise UsageError("give either --noisy or --noise")
    from ..checkpoints import default_method
    from .pairs import real, synthetic

    report = Report(quiet=quiet, as_json=as_json)
    if noisy is not None:
        pairs = real(noisy, clean, limit=limit)
    else:
        pairs = synthetic(clean, noise or [], seed=seed, limit=limit)
    methods = method or [default_method(weights)]
    competitors.check(methods)
    given: dict[str, Any] = options.parse_options(option)
    given |= {"steps": steps} if steps is not None else {}
    settings = {"offline": offline, "device": device, "precision": precision, "seed": seed}
    denoisers = _competitors(methods, given, weights, report, settings)
    records: list[Record] = []
    with report.progress():
        for pair in pairs:
            with report.catch():
                for record in _evaluate_pair(pair, denoisers, report):
                    report.data(record)
                    records.append(record)
    means = list(_means(records))
    for mean in means:
        report.data({"mean": mean})
    if records and not as_json:
        _print_table(records, means)
    raise typer.Exit(report.exit_code(len(pairs)))


def _competitors(
    methods: list[str],
    given: Mapping[str, Any],
    weights: str | None,
    report: Report,
    settings: Mapping[str, Any],
) -> list[Competitor]:
    """One for each method; `given` options go to those that know the option, and one must."""
    from ..methods import METHODS, describe

    known = {
        method: {name for name, *_ in describe(method)[1]} if method in METHODS else set()
        for method in dict.fromkeys(methods)
    }
    stray = {name for name in given if not any(name in names for names in known.values())}
    return [
        competitors.build(
            method,
            weights,
            report,
            options={name: v for name, v in given.items() if name in names | stray},
            **settings,
        )
        for method, names in known.items()
    ]


def _evaluate_pair(pair: Pair, denoisers: list[Competitor], report: Report) -> Iterator[Record]:
    from .score import mean_psnr, scores

    noisy, clean = pair.load()
    view = noisy.metadata.view
    psnr_noisy = mean_psnr(clean, noisy)
    for denoiser in denoisers:
        report.start(f"{pair.name} {pair.noise or ''} {denoiser.method}")
        result = denoiser.run(noisy.samples, noisy.axes, view=view, progress=report.step)
        psnr, ssim = scores(clean, replace(noisy, samples=result.samples))
        found = {"psnr_noisy": psnr_noisy, "psnr": psnr, "ssim": ssim}
        yield {
            "image": pair.name,
            "noise": pair.noise,
            **competitors.record(denoiser, result, found),
        }


def _means(records: list[Record]) -> Iterator[Record]:
    """The mean scores of each noise and method, in the order they came in."""
    groups: dict[tuple[str | None, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record["noise"], record["method"]), []).append(record)
    for (noise, method), group in groups.items():
        scores = {key: float(np.mean([record[key] for record in group])) for key in SCORES}
        yield {"noise": noise, "method": method, "images": len(group), **scores}


def _print_table(records: list[Record], means: list[Record]) -> None:
    from rich.table import Table

    from .catalog import show

    methods = list(dict.fromkeys(record["method"] for record in records))
    for noise in dict.fromkeys(record["noise"] for record in records):
        table = Table(title=noise, title_justify="left", box=None, padding=(0, 2))
        table.add_column("image")
        table.add_column("noisy dB", justify="right")
        for method in methods:
            for heading in (f"{method} dB", "SSIM", "s"):
                table.add_column(heading, justify="right")
        rows = [r for r in records if r["noise"] == noise]
        rows += [{"image": "mean", **m} for m in means if m["noise"] == noise]
        for image in dict.fromkeys(row["image"] for row in rows):
            cells = {row["method"]: row for row in rows if row["image"] == image}
            table.add_row(image, *_cells(cells, methods))
        show(table)


def _cells(by_method: Mapping[str, Record], methods: list[str]) -> Iterator[str]:
    first = next(iter(by_method.values()))
    yield f"{first['psnr_noisy']:.2f}"
    for method in methods:
        row = by_method.get(method)
        yield f"{row['psnr']:.2f}" if row else ""
        yield f"{row['ssim']:.4f}" if row else ""
        yield f"{row['seconds']:.2f}" if row else ""
