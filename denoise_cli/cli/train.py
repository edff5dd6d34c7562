"""`denoise train`: a recipe, a folder of clean photos, a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UnwritableOutput, UsageError
from . import options
from .report import Report

if TYPE_CHECKING:
    from ..training import Progress


def train(
    data: options.Data,
    noise: options.TrainNoise,
    out: options.Checkpoint,
    recipe: options.Recipe = "ttt-mim",
    steps: options.TrainSteps = None,
    minutes: options.Minutes = None,
    batch: options.Batch = None,
    patch: options.Patch = None,
    lr: options.LearningRate = None,
    network: options.Network = None,
    init: options.Init = None,
    val: options.Validation = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a checkpoint on clean photos with synthetic noise."""
    _check_output(out, replace=overwrite or resume)
    from ..training import train as run_training

    report = Report(quiet=quiet)
    with report.progress(percent=True):
        report.start(out.name)
        run_training(
            recipe,
            data=data,
            out=out,
            noise=noise,
            steps=steps,
            minutes=minutes,
            batch=batch,
            patch=patch,
            lr=lr,
            network=network,
            init=init,
            val=val,
            resume=resume,
            device=device,
            precision=precision,
            seed=seed,
            progress=lambda state: _show(report, state),
        )
    report.line(f"{out} written; use it with --weights {out}")


def _check_output(out: Path, *, replace: bool) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a checkpoint's name ends in .safetensors; give another -o")
    if out.exists() and not replace:
        raise UsageError(f"{out}: exists; give --overwrite, --resume or another -o")
    if not out.parent.is_dir():
        raise UnwritableOutput(f"{out.parent}: no such folder; create it or give another -o")


def _show(report: Report, state: Progress) -> None:
    text = f"step {state.step}, loss {state.loss:.4f}, {state.patches_per_second:.0f} patches/s"
    report.step(text, round(1000 * min(state.done, 1)), 1000)
    if state.val_psnr is not None:
        report.line(f"step {state.step}: loss {state.loss:.5f}, validation {state.val_psnr:.2f} dB")
