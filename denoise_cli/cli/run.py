"""`denoise INPUT...`: a loop over files around one `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import NotEnoughMemory, UsageError
from ..io.temporary import remove_leftovers
from . import figures, files, options, page
from .pipes import Streams
from .report import Report
from .weights import have_weights

if TYPE_CHECKING:
    import numpy as np

    from ..denoiser import Denoiser, Progress, Result
    from ..image import Image
    from ..trace import Trace


def run(
    inputs: options.Inputs,
    output: options.Output = None,
    recursive: options.Recursive = False,
    pattern: options.Patterns = None,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    format: options.Format = None,
    method: options.Method = options.DEFAULT_METHOD,
    weights: options.Weights = None,
    offline: options.Offline = False,
    steps: options.Steps = None,
    option: options.MethodOptions = None,
    strength: options.Strength = 1.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",
    overlap: options.Overlap = 64,
    max_memory: options.MaxMemory = None,
    jobs: options.Jobs = 1,
    shard: options.Shard = None,
    trace: options.Trace = None,
    reference: options.Reference = None,
    report_file: options.ReportFile = None,
    preview: options.Preview = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Denoise images with a network that adapts to each of them.

    The output has the format, size, bit depth and metadata of the input; the input is not touched.
    """
    report = Report(quiet=quiet, verbose=verbose, as_json=as_json, debug=debug)
    _check_streams(inputs, output, as_json=as_json)
    suffix = files.parse_format(format)
    memory = options.parse_size(max_memory)
    work = Work(
        settings={
            "method": method,
            "weights": weights,
            "steps": steps,
            "options": options.parse_options(option),
            "device": device,
            "precision": precision,
            "tile": options.parse_tile(tile),
            "overlap": overlap,
            "max_memory": memory // jobs if memory else None,
            "seed": seed,
            "strength": strength,
        },
        overwrite=overwrite,
        suffix=suffix,
        verbose=verbose,
        figures=report_file is not None,
        preview=preview,
    )
    if skip_existing and overwrite:
        raise UsageError("give either --skip-existing or --overwrite")
    if report_file is not None:
        page.check(report_file, overwrite=overwrite, again=skip_existing)
    search = files.Search(
        recursive=recursive,
        patterns=pattern or (),
        skip_marked=output is None,
        leave_out=files.output_folder(output, several=True) if _several(inputs) else None,
    )
    found = _find(report, inputs, search)
    planned = files.plan(
        found,
        several=_several(inputs),
        output=output,
        suffix=suffix,
        reference=reference,
        trace=trace,
    )
    planned = files.part(planned, files.parse_shard(shard))
    ready = _ready(report, planned, overwrite=overwrite, skip_existing=skip_existing)
    count = max(len(inputs), len(planned))
    with page.Page(report_file, report) as collected:
        report.collect = collected
        if ready:
            have_weights(report, weights, method, offline=offline)
            with report.progress(files=len(ready)):
                _denoise(work, ready, jobs, report)
    if count > 1:
        report.summary()
    raise typer.Exit(report.exit_code(count))


@dataclass(frozen=True)
class Work:
    """What a call does to each of its images; it can be sent to another process.

    Attributes
    ----------
    settings : mapping
        Arguments of `Denoiser`.
    overwrite : bool
        Replace outputs that exist.
    suffix : str or None
        That of outputs, where it is not the input's.
    verbose, figures, preview : bool
        What to tell about each image: more than a line; what the page of --report shows; crops.
    """

    settings: Mapping[str, Any]
    overwrite: bool = False
    suffix: str | None = None
    verbose: bool = False
    figures: bool = False
    preview: bool = False

    def start(self) -> Callable[..., Done]:
        """Build the denoiser, which takes seconds; what comes back denoises one image."""
        from ..denoiser import Denoiser

        return partial(_denoise_file, work=self, denoiser=Denoiser(**self.settings))


@dataclass(frozen=True)
class Done:
    """What is to be said about an image that was denoised."""

    job: files.Job
    lines: Sequence[str]
    record: Mapping[str, Any]
    figure: figures.Figure | None = None
    crops: tuple[np.ndarray, np.ndarray] | None = None

    def tell(self, report: Report) -> None:
        """Say it, on stderr and stdout."""
        report.done += 1
        for line in self.lines:
            report.line(line)
        if self.crops is not None:
            from .preview import show

            show(*self.crops, report)
        if self.figure is not None and report.collect is not None:
            report.collect(self.figure)
        report.data(self.record)


def _check_streams(inputs: list[Path], output: str | None, *, as_json: bool) -> None:
    """Refuse what standard input and output cannot do."""
    if files.STREAM in inputs and len(inputs) > 1:
        raise UsageError("standard input (-) is one image; give it alone")
    if as_json and (output == "-" or (output is None and files.STREAM in inputs)):
        raise UsageError("--json and the image would both go to standard output; give -o FILE")


def _several(inputs: list[Path]) -> bool:
    return len(inputs) > 1 or inputs[0].is_dir()


def _find(report: Report, inputs: list[Path], search: files.Search) -> list[files.Found]:
    found: list[files.Found] = []
    for given in inputs:
        with report.catch():
            found += search.expand(given, report.catch)
    return found


def _ready(
    report: Report, jobs: list[files.Job], *, overwrite: bool, skip_existing: bool
) -> list[files.Job]:
    """The jobs that can start; says why others cannot."""
    ready = []
    for job in jobs:
        if skip_existing and job.output.is_file():
            report.skipped += 1
            continue
        with report.catch():
            job.check(overwrite=overwrite)
            ready.append(job)
    for folder in sorted({job.output.parent for job in ready if job.output != files.STREAM}):
        remove_leftovers(folder)
    return ready


def _denoise(work: Work, jobs: list[files.Job], processes: int, report: Report) -> None:
    """Do the jobs, here or in several processes."""
    if processes > 1 and len(jobs) > 1:
        from .workers import denoise_all

        denoise_all(work, jobs, processes, report)
        return
    denoise = work.start()
    for index, job in enumerate(jobs, 1):
        place = f"{index}/{len(jobs)} " if len(jobs) > 1 else ""
        report.start(place + job.input.name)
        with report.catch(job.input):
            denoise(job, progress=report.step).tell(report)
        report.advance()


def _denoise_file(
    job: files.Job, *, work: Work, denoiser: Denoiser, progress: Progress | None = None
) -> Done:
    from ..io import read, write
    from .score import mean_psnr, read_reference, scores

    with Streams(to_stdout=job.output == files.STREAM) as streams, streams.named():
        noisy = read(streams.input(job.input))
        target = streams.output(job.output, work.suffix or f".{noisy.metadata.format}")
        files.check_suffix(target)
        clean = read_reference(job.reference, noisy) if job.reference else None
        trace = _start_trace(job.trace, noisy, clean) if job.trace else None
        try:
            result = denoiser.run(noisy.samples, noisy.axes, progress=progress, trace=trace)
        except NotEnoughMemory as error:
            raise NotEnoughMemory(f"{job.input}: {error}") from error
        denoised = replace(noisy, samples=result.samples)
        files.make_folder(target.parent)
        write(target, denoised, overwrite=work.overwrite)
        streams.send(job.output, target)
    if trace is not None:
        trace.close(result.kept_step)
    lines = [_line(job, denoiser, result, verbose=work.verbose)]
    if result.warning:
        lines.insert(0, f"denoise: {job.input}: warning: {result.warning}")
    record = _record(job, denoiser, result)
    if clean is not None:
        record["psnr_input"] = mean_psnr(clean, noisy.samples, noisy.axes)
        record["psnr"], record["ssim"] = scores(clean, result.samples, noisy.axes)
    figure = figures.draw(record, noisy, denoised, result) if work.figures else None
    crops = figures.crops(noisy, denoised) if work.preview else None
    return Done(job, lines, record, figure, crops)


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
