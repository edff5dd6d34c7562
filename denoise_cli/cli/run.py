"""`denoise INPUT...`: a loop over files around one `Denoiser`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from . import files, options
from .report import Report
from .weights import have_weights

if TYPE_CHECKING:
    import numpy as np

    from ..denoiser import Denoiser, Outcome
    from ..image import Stack
    from ..methods.base import Adaptation
    from ..trace import Trace


def run(
    inputs: options.Inputs,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    axes: options.Axes = None,
    method: options.Method = options.DEFAULT_METHOD,
    weights: options.Weights = None,
    offline: options.Offline = False,
    steps: options.Steps = None,
    option: options.MethodOptions = None,
    adapt: options.Adapt = "stack",
    adapted_out: options.AdaptedOut = None,
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
    stack = StackOptions(options.parse_axes(axes), options.parse_adapt(adapt), adapted_out)
    jobs, count = _ready(report, inputs, output, reference, trace, overwrite)
    options.check_adapted_out(adapted_out, adapt, count, overwrite=overwrite)
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
        )
        with report.progress():
            for index, job in enumerate(jobs, 1):
                place = f"{index}/{len(jobs)} " if len(jobs) > 1 else ""
                report.start(place + job.input.name)
                with report.catch():
                    _denoise_file(job, denoiser, report, stack, overwrite=overwrite)
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
    several = len(inputs) > 1 or (inputs[0].is_dir() and inputs[0] not in paths)
    jobs = files.plan(paths, several=several, output=output, reference=reference, trace=trace)
    ready = []
    for job in jobs:
        with report.catch():
            job.check(overwrite=overwrite)
            ready.append(job)
    return ready, max(len(inputs), len(jobs))


@dataclass(frozen=True)
class StackOptions:
    """What a call says of stacks."""

    axes: str | None
    adapt: str
    adapted_out: Path | None


def _denoise_file(
    job: files.Job, denoiser: Denoiser, report: Report, options: StackOptions, *, overwrite: bool
) -> None:
    from ..image import Image, Stack
    from ..io import open_stack, write
    from .score import mean_psnr, read_reference, scores

    files.check_suffix(job.output)
    with open_stack(job.input) as noisy:
        axes = options.axes or noisy.axes
        clean, found = None, []
        if job.reference:
            noisy = Stack.of(noisy.read())  # scores need all of it
            clean = read_reference(job.reference, Image(noisy.read().samples, axes))
        trace = _start_trace(job.trace, noisy.with_axes(axes), clean) if job.trace else None

        def use(denoised: Stack) -> None:
            if clean is not None:
                image = denoised.read()
                found.append(image.samples)
                denoised = Stack.of(image)
            files.make_folder(job.output.parent)
            write(job.output, denoised, overwrite=overwrite)

        def save(adaptation: Adaptation) -> None:
            if options.adapted_out:
                denoiser.save_adapted(options.adapted_out, adaptation, job.input.name)

        outcome = denoiser.stream(
            noisy,
            use,
            axes=axes,
            adapt=options.adapt,
            adapted=save,
            progress=report.step,
            trace=trace,
        )
    if trace is not None:
        trace.close(outcome.kept_step)
    if outcome.warning:
        report.line(f"denoise: {job.input}: warning: {outcome.warning}")
    report.line(_line(job, denoiser, outcome, verbose=report.verbose))
    record = _record(job, denoiser, outcome, noisy)
    if clean is not None:
        record["psnr_input"] = mean_psnr(clean, noisy.read().samples, axes)
        record["psnr"], record["ssim"] = scores(clean, found[0], axes)
    report.data(record)


def _start_trace(folder: Path, noisy: Stack, clean: np.ndarray | None) -> Trace:
    """A trace of the first plane, on the scale that the network sees it on."""
    from ..trace import Trace
    from .score import network_scale, pictures

    scale = network_scale(noisy)
    reference = None if clean is None else scale(clean[0])
    trace = Trace(folder, reference=reference, orientation=noisy.metadata.orientation)
    trace.noisy(scale(pictures(noisy.frame(0), noisy.frame_axes)[0]))
    return trace


def _line(job: files.Job, denoiser: Denoiser, outcome: Outcome, *, verbose: bool) -> str:
    how = outcome.reason
    adapted = outcome.kept_step > 0
    if adapted and outcome.adaptations == 1:
        how = f"adapted, kept step {outcome.kept_step} of {outcome.steps}"
    if adapted and outcome.gain_db is not None:
        how += f", about {outcome.gain_db:+.1f} dB"
    parts = [how, f"{outcome.seconds:.1f} s"]
    if verbose:
        parts += [f"{denoiser.device} {denoiser.precision}", f"weights {denoiser.weights}"]
        parts += [outcome.reason] if adapted and outcome.adaptations == 1 else []
    return f"{job.input} -> {job.output} ({'; '.join(parts)})"


def _record(job: files.Job, denoiser: Denoiser, outcome: Outcome, noisy: Stack) -> dict[str, Any]:
    return {
        "input": str(job.input),
        "output": str(job.output),
        "method": denoiser.method,
        "weights": denoiser.weights,
        "device": denoiser.device,
        "precision": denoiser.precision,
        "steps": outcome.steps,
        "shape": list(noisy.shape),
        "dtype": str(noisy.dtype),
        "seconds": round(outcome.seconds, 3),
        "seconds_adapt": round(outcome.seconds_adapt, 3),
        "kept_step": outcome.kept_step,
        "gain_db": outcome.gain_db,
        "reason": outcome.reason,
    }
