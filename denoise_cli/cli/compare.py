"""`denoise compare`: several methods on one image, side by side on one sheet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnwritableOutput, UsageError
from ..image import Image, to_planes, upright
from ..io.temporary import moved_into
from . import competitors, files, options
from .report import Report

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from rich.table import Table

    from .competitors import Competitor

MARK = "_compare.png"
Record = dict[str, Any]


def compare(
    image: options.ComparedImage,
    reference: options.ComparedReference = None,
    methods: options.ComparedMethods = "none,ttt-mim,nlm,wavelet",
    output: options.Sheet = None,
    overwrite: options.Overwrite = False,
    offline: options.Offline = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Denoise one image by several methods, and put the results side by side on one sheet.

    Besides the methods of `denoise methods` there are nlm (non-local means), wavelet (BayesShrink)
    and, where its package is installed, bm3d: classical denoisers that estimate the noise level of
    the image. The sheet (PNG) shows each result as a whole and a crop of it at the busiest place,
    with the seconds it took; with --reference also PSNR and SSIM. Of a stack the middle plane is
    compared. The image itself is not touched, and the results are not kept.
    """
    from .score import mean_psnr

    wanted = competitors.split(methods)
    sheet = output or image.with_name(image.stem + MARK)
    if sheet.suffix.lower() != ".png":
        raise UsageError(f"{sheet}: the sheet is a PNG; give -o a name that ends in .png")
    files.Job(image, sheet, reference).check(overwrite=overwrite)
    if sheet.exists() and any(sheet.samefile(path) for path in (image, reference) if path):
        raise UsageError(f"{sheet}: is an image to compare; give another -o")
    report = Report(quiet=quiet, as_json=as_json)
    noisy = _middle_plane(image)
    clean = None if reference is None else _clean(reference, image, noisy)
    psnr_noisy = None if clean is None else mean_psnr(clean, noisy)
    settings: dict[str, Any] = {"device": device, "precision": precision, "seed": seed}
    built = [
        competitors.build(method, weights, report, offline=offline, **settings)
        for method, weights in wanted
    ]
    labels = [f"{method}:{weights}" if weights else method for method, weights in wanted]
    records: list[Record] = []
    denoised: list[Image] = []
    with report.progress():
        for competitor, label in zip(built, labels, strict=True):
            report.start(label)
            record, result = _run(competitor, noisy, clean, psnr_noisy, report)
            records.append({"image": str(image), **record})
            denoised.append(replace(noisy, samples=result))
            report.data(records[-1])
    _write(sheet, _draw(noisy, denoised, clean, labels, records))
    report.draw(_table(labels, records, clean is not None))
    report.line(f"{sheet} written")


def _middle_plane(path: Path) -> Image:
    """The image at `path` as one plane (Y, X) or (Y, X, 3), without alpha."""
    from ..io import open_stack
    from ..streaming import plane_count

    with open_stack(path) as stack:
        view = stack.metadata.view
        of_a_frame = plane_count(stack) // stack.count
        frame, index = divmod(plane_count(stack) // 2, of_a_frame)
        samples, axes = stack.frame(frame), stack.frame_axes
    planes, _ = to_planes(samples, axes) if view is None else to_planes(*view.forward(samples))
    plane = np.moveaxis(planes[index], 0, -1)
    gray = plane.shape[-1] == 1
    metadata = replace(stack.metadata, view=None)
    return Image(
        np.ascontiguousarray(plane[..., 0] if gray else plane), "YX" if gray else "YXS", metadata
    )


def _clean(reference: Path, path: Path, noisy: Image) -> np.ndarray:
    """The clean plane (1, Y, X, C) on 0..1."""
    from ..errors import UnreadableImage
    from .score import pictures

    clean = _middle_plane(reference)
    if clean.samples.shape != noisy.samples.shape:
        raise UnreadableImage(
            f"{reference}: does not have the size and colors of {path}; give its clean version"
        )
    return pictures(clean.samples, clean.axes)


def _run(
    competitor: Competitor,
    noisy: Image,
    clean: np.ndarray | None,
    psnr_noisy: float | None,
    report: Report,
) -> tuple[Record, np.ndarray]:
    from .score import scores

    result = competitor.run(noisy.samples, noisy.axes, progress=report.step)
    found: dict[str, float] = {}
    if psnr_noisy is not None and clean is not None:
        psnr, ssim = scores(clean, replace(noisy, samples=result.samples))
        found = {"psnr_noisy": psnr_noisy, "psnr": psnr, "ssim": ssim}
    return competitors.record(competitor, result, found), result.samples


def _draw(
    noisy: Image,
    denoised: Sequence[Image],
    clean: np.ndarray | None,
    labels: Sequence[str],
    records: Sequence[Record],
) -> Picture:
    from PIL import Image as Pillow

    from ..sheet import busiest, draw_sheet
    from .figures import eight_bits

    images = [noisy, *denoised]
    captions = [("noisy", _decibels(records[0].get("psnr_noisy")))]
    captions += [(label, _caption(record)) for label, record in zip(labels, records, strict=True)]
    if clean is not None:
        images.append(_as_stored(clean, noisy))
        captions.append(("reference", ""))
    shown = [upright(each, noisy.metadata.orientation) for each in eight_bits(*images)]
    # Where the results have detail: the noise itself would draw the crop to where it is strong.
    guide = shown[-1] if clean is not None else np.mean(shown[1:], axis=0).astype(np.uint8)
    pictures = [Pillow.fromarray(np.ascontiguousarray(each)) for each in shown]
    entries = [(each, text, False) for each, text in zip(pictures, captions, strict=True)]
    return draw_sheet(entries, busiest(Pillow.fromarray(np.ascontiguousarray(guide))))


def _as_stored(clean: np.ndarray, noisy: Image) -> Image:
    """The clean plane on the scale of the noisy one's samples."""
    kind = noisy.samples.dtype
    peak = np.iinfo(kind).max if kind.kind in "iu" else 1
    return Image(clean[0] * peak, "YXS")


def _caption(record: Record) -> str:
    parts = [f"{record['seconds']:.2f} s", _decibels(record.get("psnr"))]
    if math.isfinite(record.get("ssim", math.nan)):
        parts.append(f"SSIM {record['ssim']:.4f}")
    return ", ".join(filter(None, parts))


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} dB"


def _table(labels: Sequence[str], records: Sequence[Record], scored: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2))
    table.add_column("method")
    for heading in ("seconds", *(("PSNR dB", "SSIM") if scored else ())):
        table.add_column(heading, justify="right")
    for row in _rows(labels, records, scored):
        table.add_row(*row)
    return table


def _rows(
    labels: Sequence[str], records: Sequence[Record], scored: bool
) -> Iterator[tuple[str, ...]]:
    if scored:
        yield "noisy", "", f"{records[0]['psnr_noisy']:.2f}", ""
    for label, record in zip(labels, records, strict=True):
        scores = (f"{record['psnr']:.2f}", f"{record['ssim']:.4f}") if scored else ()
        yield label, f"{record['seconds']:.2f}", *scores


def _write(path: Path, sheet: Picture) -> None:
    files.make_folder(path.parent)
    try:
        with moved_into(path) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnwritableOutput(f"{path}: cannot be written ({reason}); give another -o") from None
