"""`denoise train`: a recipe, pictures, a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnwritableOutput, UsageError
from ..values import parse_duration
from . import options
from .report import Report

if TYPE_CHECKING:
    from ..training import Progress


def train(
    out: options.Checkpoint,
    data: options.Data = None,
    pairs: options.TrainPairs = None,
    noisy: options.TrainNoisy = None,
    noise: options.TrainNoise = None,
    recipe: options.Recipe = "ttt-mim",
    option: options.RecipeOptions = None,
    mask: options.Mask = None,
    shared_mask: options.SharedMask = False,
    steps: options.TrainSteps = None,
    time: options.Time = None,
    batch: options.Batch = "auto",
    patch: options.Patch = None,
    lr: options.LearningRate = None,
    network: options.Network = None,
    config: options.Config = None,
    init: options.Init = None,
    val: options.Validation = None,
    resume: options.Resume = False,
    save_every: options.SaveEvery = "60s",
    workers: options.Workers = 2,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a checkpoint: on clean photos with noise added, on pairs, or on noisy pictures alone.

    Ctrl-C and SIGTERM save the state; the same command with --resume goes on. Beside the checkpoint
    come a log (.csv), a preview (.preview.png) and, for measured noise, a plot of it (.noise.png).
    """
    _check_output(out, replace=overwrite or resume)
    if batch != "auto" and not (batch.isdigit() and int(batch)):
        raise UsageError(f"--batch {batch!r} is neither auto nor a number of patches")
    minutes = parse_duration(time) if time is not None else None
    recipe_options = options.parse_options(option)
    recipe_options |= {"mask": mask} if mask is not None else {}
    recipe_options |= {"shared_mask": "true"} if shared_mask else {}
    save_seconds = 60 * parse_duration(save_every)
    from ..training import parallel, train as run_training

    report = Report(quiet=quiet or parallel.rank() > 0)
    if noise and noise.startswith("measured:") and not parallel.rank():
        _show_measured(report, noise, out)
    try:
        with report.progress(percent=True):
            report.start(out.name)
            run_training(
                recipe,
                out=out,
                data=data,
                pairs=pairs,
                noisy=noisy,
                noise=noise,
                options=recipe_options,
                steps=steps,
                minutes=minutes,
                batch=batch,
                patch=patch,
                lr=lr,
                network=network,
                config=_network_arguments(config),
                init=init,
                val=val,
                resume=resume,
                save_seconds=save_seconds,
                workers=workers,
                device=device,
                precision=precision,
                seed=seed,
                progress=lambda state: _show(report, state),
            )
    except KeyboardInterrupt:
        if out.with_suffix(".state").exists():
            report.line("stopped, the state is saved; the same command with --resume goes on")
        raise
    report.line(f"{out} written; use it with --weights {out}")


def _check_output(out: Path, *, replace: bool) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a checkpoint's name ends in .safetensors; give another -o")
    if out.exists() and not replace:
        raise UsageError(f"{out}: exists; give --overwrite, --resume or another -o")
    if not out.parent.is_dir():
        raise UnwritableOutput(f"{out.parent}: no such folder; create it or give another -o")


def _network_arguments(texts: list[str] | None) -> dict[str, Any]:
    """``["channels=1"]`` -> ``{"channels": 1}``: numbers, true, false and [lists] as in JSON."""
    import json

    arguments: dict[str, Any] = {}
    for name, text in options.parse_options(texts).items():
        try:
            arguments[name] = json.loads(text)
        except json.JSONDecodeError:
            raise UsageError(
                f"--config {name}={text}: the value is no number, true, false or [list]"
            ) from None
    return arguments


def _show_measured(report: Report, noise: str, out: Path) -> None:
    """Say what noise was measured before hours go into it, and draw it."""
    from .. import measured

    model = measured.measure(noise.removeprefix("measured:"))
    picture = out.with_suffix(".noise.png")
    measured.plot(model, picture)
    report.line(f"noise of {model.summary()}; see {picture}")


def _show(report: Report, state: Progress) -> None:
    if state.note:
        report.line(state.note)
        return
    left = round(state.seconds_left / 60)
    text = f"loss {state.loss:.4f}, {state.patches_per_second:.0f} patches/s, {left} min left"
    report.step(f"step {state.step}, {text}", round(1000 * min(state.done, 1)), 1000)
    if state.val_psnr is not None:
        report.line(f"step {state.step}: {text}, validation {state.val_psnr:.2f} dB")
