"""`denoise INPUT...`: a loop over files around one `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import NotEnoughMemory, UsageError
from ..io import is_store
from ..io.temporary import remove_leftovers
from . import figures, files, options, page
from .pipes import Streams
from .report import Report
from .weights import have_weights

if TYPE_CHECKING:
    import numpy as np

    from ..denoiser import Denoiser, Outcome
    from ..image import Image, Stack
    from ..methods.base import Adaptation, Candidate
    from ..trace import Trace
    from ..watch import Progress


def run(
    inputs: options.Inputs,
    output: options.Output = None,
    recursive: options.Recursive = False,
    pattern: options.Patterns = None,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    format: options.Format = None,
    axes: options.Axes = None,
    method: options.Method = None,
    weights: options.Weights = None,
    offline: options.Offline = False,
    steps: options.Steps = None,
    option: options.MethodOptions = None,
    budget: options.Budget = None,
    adapt: options.Adapt = "stack",
    adapted_out: options.AdaptedOut = None,
    noise: options.KnownNoise = None,
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
    method_options = options.parse_options(option)
    if budget is not None:
        method_options["budget"] = budget
    work = Work(
        settings={
            "method": method,
            "weights": weights,
            "steps": steps,
            "options": method_options,
            "device": device,
            "precision": precision,
            "tile": options.parse_tile(tile),
            "overlap": overlap,
            "max_memory": memory // jobs if memory else None,
            "seed": seed,
            "strength": strength,
            "noise": noise,
        },
        overwrite=overwrite,
        suffix=suffix,
        axes=options.parse_axes(axes),
        adapt=options.parse_adapt(adapt),
        adapted_out=adapted_out,
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
    options.check_adapted_out(adapted_out, adapt, count, overwrite=overwrite)
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
    axes : str or None
        The axes of stacks, where they are not what their files say.
    adapt : str
        ``stack`` or ``slice``; see `Denoiser.stream`.
    adapted_out : path or None
        Where the adapted network is saved.
    verbose, figures, preview : bool
        What to tell about each image: more than a line; what the page of --report shows; crops.
    """

    settings: Mapping[str, Any]
    overwrite: bool = False
    suffix: str | None = None
    axes: str | None = None
    adapt: str = "stack"
    adapted_out: Path | None = None
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
    return len(inputs) > 1 or (inputs[0].is_dir() and not is_store(inputs[0]))


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
        if skip_existing and (job.output.is_file() or is_store(job.output)):
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
            denoise(job, progress=report.step, expect=report.expect).tell(report)
        report.advance()


def _denoise_file(
    job: files.Job,
    *,
    work: Work,
    denoiser: Denoiser,
    progress: Progress | None = None,
    expect: Callable[..., None] | None = None,
) -> Done:
    from ..image import Stack
    from ..io import check_picture, open_stack, write
    from .score import mean_psnr, read_reference, scores

    with Streams(to_stdout=job.output == files.STREAM) as streams, streams.named():
        with open_stack(streams.input(job.input)) as noisy:
            target = streams.output(job.output, work.suffix or f".{noisy.metadata.format}")
            files.check_suffix(target)
            check_picture(target, noisy)
            axes = work.axes or noisy.axes
            clean, found = None, []
            if job.reference:
                noisy = Stack.of(noisy.read())  # scores need all of it
                original = replace(noisy.read(), axes=axes)
                clean = read_reference(job.reference, original)
            trace = _start_trace(job.trace, noisy.with_axes(axes), clean) if job.trace else None
            shown = _Middle(noisy) if work.figures or work.preview else None

            def use(denoised: Stack) -> None:
                if clean is not None:
                    image = denoised.read()
                    found.append(image.samples)
                    denoised = Stack.of(image)
                files.make_folder(target.parent)
                write(
                    target, shown.watch(denoised) if shown else denoised, overwrite=work.overwrite
                )

            def save(adaptation: Adaptation) -> None:
                if work.adapted_out:
                    denoiser.save_adapted(work.adapted_out, adaptation, job.input.name)

            quicker = getattr(denoiser.method_options, "quicker", None)
            say = None if expect is None else partial(expect, str(job.input), quicker=quicker)
            try:
                outcome = denoiser.stream(
                    noisy,
                    use,
                    axes=axes,
                    adapt=work.adapt,
                    adapted=save,
                    progress=progress,
                    trace=trace,
                    expect=say,
                )
            except NotEnoughMemory as error:
                raise NotEnoughMemory(f"{job.input}: {error}") from error
            before = shown.image(noisy) if shown else None
        streams.send(job.output, target)
    if trace is not None:
        trace.close(outcome.kept_step)
    lines = [_line(job, denoiser, outcome, verbose=work.verbose)]
    if work.verbose:
        lines += map(_candidate_line, outcome.candidates)
    if outcome.warning:
        lines.insert(0, f"denoise: {job.input}: warning: {outcome.warning}")
    if noisy.metadata.note:
        lines.insert(0, f"denoise: {job.input}: note: {noisy.metadata.note}")
    record = _record(job, denoiser, outcome, noisy)
    if clean is not None:
        record["psnr_input"] = mean_psnr(clean, original)
        record["psnr"], record["ssim"] = scores(clean, replace(original, samples=found[0]))
    figure = crops = None
    if shown is not None and before is not None:
        after = shown.image()
        if work.figures:
            figure = figures.draw(record, before, after, outcome.curve, shown.place)
        crops = figures.crops(before, after) if work.preview else None
    return Done(job, lines, record, figure, crops)


class _Middle:
    """The middle frame of a stack and what was made of it: what is shown of it."""

    def __init__(self, noisy: Stack) -> None:
        self.index = noisy.count // 2
        self.place = f"plane {self.index + 1} of {noisy.count}" if noisy.count > 1 else ""
        self._denoised: Image | None = None

    def watch(self, denoised: Stack) -> Stack:
        """`denoised`, whose middle frame is remembered when it is made."""
        from ..image import Image

        def frame(index: int) -> np.ndarray:
            made = denoised.frame(index)
            if index == self.index:
                self._denoised = Image(made, denoised.frame_axes, denoised.metadata)
            return made

        return replace(denoised, frame=frame)

    def image(self, noisy: Stack | None = None) -> Image:
        """The middle frame of `noisy`, or the one remembered."""
        from ..image import Image

        if noisy is not None:
            return Image(noisy.frame(self.index), noisy.frame_axes, noisy.metadata)
        assert self._denoised is not None
        return self._denoised


def _start_trace(folder: Path, noisy: Stack, clean: np.ndarray | None) -> Trace:
    """A trace of the first plane, on the scale that the network sees it on."""
    from ..image import Image, Stack
    from ..trace import Trace
    from .score import network_scale, pictures

    view = noisy.metadata.view
    if view is not None:  # a clean picture is not seen the same way
        samples, axes = view.forward(noisy.read().samples)
        noisy, clean = Stack.of(Image(samples, axes, noisy.metadata)), None
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


def _candidate_line(candidate: Candidate) -> str:
    return (
        f"  {candidate.weight:4.0%} {candidate.name}: {candidate.noise_left:.0%} of the noise left"
    )


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
        "warning": outcome.warning,
        "candidates": [asdict(candidate) for candidate in outcome.candidates],
    }
