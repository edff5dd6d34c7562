"""PSNR over the steps of gaintuning, for its three losses, at noise of the training and beyond it.

Run it as ``python tests/benchmarks/gaintuning_curve.py [WEIGHTS] [-o curve.png]`` from the
repository (it needs matplotlib). It tunes to the middle of photos of scikit-image, with white noise
of sigma 30 and 70 added, and prints and draws the gain over the untuned network at each look; a
ring marks the step that the method keeps by itself.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import skimage.data
import torch

from denoise_cli import checkpoints, device
from denoise_cli.methods.gaintuning import GainTuning
from denoise_cli.metrics import psnr
from denoise_cli.noise_level import NoiseLevel

PICTURES = ("camera", "moon", "coins")
LOSSES, SIGMAS, SIDE = ("sure", "blind-spot", "resample"), (30, 70), 128


class Curve:
    """Observer of an adaptation: the true PSNR of each look."""

    def __init__(self, clean: np.ndarray, noisy: torch.Tensor) -> None:
        self.clean, self.noisy = clean, noisy
        self.steps: list[int] = []
        self.psnr: list[float] = []

    def progress(self, done: int, total: int) -> None: ...

    @torch.no_grad()
    def step(self, step: int, predict: Any, reconstruct: Any, **numbers: Any) -> None:
        denoised = predict(self.noisy).float()[0, 0].numpy()
        self.steps.append(step)
        self.psnr.append(psnr(self.clean, denoised.clip(0, 1)))


def tuned(network: torch.nn.Module, clean: np.ndarray, sigma: int, loss: str) -> tuple[Curve, int]:
    """The curve of one picture and the step kept."""
    generator = torch.Generator().manual_seed(0)
    level = NoiseLevel(read=(sigma / 255) ** 2)
    noisy = level.sample(torch.from_numpy(clean)[None, None], generator)
    curve = Curve(clean, noisy)
    with device.resolve("cpu").autocast():
        method = GainTuning(loss=loss)
        adapted = method.adapt(network, noisy, generator=generator, observer=curve, noise=level)
    return curve, adapted.kept_step


def middle(name: str) -> np.ndarray:
    picture = getattr(skimage.data, name)() / np.float32(255)
    top, left = ((side - SIDE) // 2 for side in picture.shape)
    return picture[top : top + SIDE, left : left + SIDE].copy()


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser()
    parser.add_argument("weights", nargs="?", default="unet-gray")
    parser.add_argument("-o", "--output", default="gaintuning_curve.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = checkpoints.load(arguments.weights).network.eval()
    figure = Figure(figsize=(4.5 * len(SIGMAS), 3.2 * len(PICTURES)), layout="constrained")
    panels = figure.subplots(len(PICTURES), len(SIGMAS), squeeze=False)
    for row, name in zip(panels, PICTURES, strict=True):
        for panel, sigma in zip(row, SIGMAS, strict=True):
            for loss in LOSSES:
                curve, kept = tuned(network, middle(name), sigma, loss)
                gains = np.array(curve.psnr) - curve.psnr[0]
                print(name, sigma, loss, np.round(gains, 2), f"kept {kept}", flush=True)
                (line,) = panel.plot(curve.steps, gains, label=loss)
                mark = gains[curve.steps.index(kept)]
                panel.plot(kept, mark, "o", mfc="none", ms=9, color=line.get_color())
            panel.set_title(
                f"{name}, sigma {sigma}: {curve.psnr[0]:.2f} dB untuned", fontsize="medium"
            )
            panel.set(xlabel="step", ylabel="gain in dB")
            panel.axhline(0, color="gray", lw=0.5)
            panel.legend()
    figure.savefig(arguments.output, dpi=100)


if __name__ == "__main__":
    main()
