"""`denoise INPUT...`: a loop over files around one `Denoiser`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from . import files, options
from .report import Report
from .weights import have_weights

if TYPE_CHECKING:
    import numpy as np

    from ..denoiser import Denoiser, Result
    from ..image import Image
    from ..trace import Trace


def run(
    inputs: options.Inputs,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    method: options.Method = options.DEFAULT_METHOD,
    weights: options.Weights = None,
    offline: options.Offline = False,
    steps: options.Steps = None,
    option: options.MethodOptions = None,
    noise: options.KnownNoise = None,
    strength: options.Strength = 1.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",
    overlap: options.Overlap = 64,
    trace: options.Trace = None,
    reference: options.Reference = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Denoise images with a network that adapts to each of them.

    The output has the format, size, bit depth and metadata of the input; the input is not touched.
    """
    report = Report(quiet=quiet, verbose=verbose, as_json=as_json)
    method_options, tile_side = options.parse_options(option), options.parse_tile(tile)
    jobs, count = _ready(report, inputs, output, reference, trace, overwrite)
    if jobs:
        from ..denoiser import Denoiser

        have_weights(report, weights, method, offline=offline)
        denoiser = Denoiser(
            method,
            weights=weights,
            steps=steps,
            options=method_options,
            device=device,
            precision=precision,
            tile=tile_side,
            overlap=overlap,
            seed=seed,
            strength=strength,
            noise=noise,
        )
        with report.progress():
            for index, job in enumerate(jobs, 1):
                place = f"{index}/{len(jobs)} " if len(jobs) > 1 else ""
                report.start(place + job.input.name)
                with report.catch():
                    _denoise_file(job, denoiser, report, overwrite=overwrite)
    raise typer.Exit(report.exit_code(count))


def _ready(
    report: Report,
    inputs: list[Path],
    output: str | None,
    reference: Path | None,
    trace: Path | None,
    overwrite: bool,
) -> tuple[list[files.Job], int]:
    """The jobs that can start, and how many images were asked for; says why others cannot."""
    paths: list[Path] = []
    for given in inputs:
        with report.catch():
            paths += files.expand(given, beside=output is None)
    several = len(inputs) > 1 or inputs[0].is_dir()
    jobs = files.plan(paths, several=several, output=output, reference=reference, trace=trace)
    ready = []
    for job in jobs:
        with report.catch():
            job.check(overwrite=overwrite)
            ready.append(job)
    return ready, max(len(inputs), len(jobs))


def _denoise_file(job: files.Job, denoiser: Denoiser, report: Report, *, overwrite: bool) -> None:
    from ..io import read, write
    from .score import mean_psnr, read_reference, scores

    noisy = read(job.input)
    files.check_suffix(job.output)
    clean = read_reference(job.reference, noisy) if job.reference else None
    trace = _start_trace(job.trace, noisy, clean) if job.trace else None
    result = denoiser.run(noisy.samples, noisy.axes, progress=report.step, trace=trace)
    denoised = replace(noisy, samples=result.samples)
    files.make_folder(job.output.parent)
    write(job.output, denoised, overwrite=overwrite)
    if trace is not None:
        trace.close(result.kept_step)
    if result.warning:
        report.line(f"denoise: {job.input}: warning: {result.warning}")
    report.line(_line(job, denoiser, result, verbose=report.verbose))
    record = _record(job, denoiser, result)
    if clean is not None:
        record["psnr_input"] = mean_psnr(clean, noisy.samples, noisy.axes)
        record["psnr"], record["ssim"] = scores(clean, result.samples, noisy.axes)
    report.data(record)


def _start_trace(folder: Path, noisy: Image, clean: np.ndarray | None) -> Trace:
    """A trace of the first plane, on the scale that the network sees it on."""
    from ..trace import Trace
    from .score import network_scale, pictures

    scale = network_scale(noisy)
    reference = None if clean is None else scale(clean[0])
    trace = Trace(folder, reference=reference, orientation=noisy.metadata.orientation)
    trace.noisy(scale(pictures(noisy.samples, noisy.axes)[0]))
    return trace


def _line(job: files.Job, denoiser: Denoiser, result: Result, *, verbose: bool) -> str:
    outcome = result.reason
    if result.kept_step:
        outcome = f"adapted, kept step {result.kept_step} of {result.steps}"
        if result.gain_db is not None:
            outcome += f", about {result.gain_db:+.1f} dB"
    parts = [outcome, f"{result.seconds:.1f} s"]
    if verbose:
        parts += [f"{denoiser.device} {denoiser.precision}", f"weights {denoiser.weights}"]
        parts += [result.reason] if result.kept_step else []
    return f"{job.input} -> {job.output} ({'; '.join(parts)})"


def _record(job: files.Job, denoiser: Denoiser, result: Result) -> dict[str, Any]:
    return {
        "input": str(job.input),
        "output": str(job.output),
        "method": denoiser.method,
        "weights": denoiser.weights,
        "device": denoiser.device,
        "precision": denoiser.precision,
        "steps": result.steps,
        "shape": list(result.samples.shape),
        "dtype": str(result.samples.dtype),
        "seconds": round(result.seconds, 3),
        "seconds_adapt": round(result.seconds_adapt, 3),
        "kept_step": result.kept_step,
        "gain_db": result.gain_db,
        "reason": result.reason,
    }
