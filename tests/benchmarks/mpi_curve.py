"""PSNR that mpi reaches over time, beside the fill as its paper has it.

Run it as ``python tests/benchmarks/mpi_curve.py [--side 256] [-o curve.png]`` from the repository
(it needs matplotlib). White noise of sigma 25 is added to the middle of photos of scikit-image. A
point is what comes out when one stops there: the steps so far, and what it takes to predict; the
last one of `mpi` has the pixels' own samples weighed in, as its result has. The paper's form runs
in single precision with the statistics of the picture at hand and the running average of its
equation 9; it starts from the weights `mpi-hourglass`. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch

from denoise_cli import checkpoints, device
from denoise_cli.methods.mpi import MPI
from denoise_cli.metrics import psnr

PICTURES = ("astronaut", "coffee", "chelsea")
SIGMA, STEPS, BETA, HIDDEN, LR, EVERY = 25, 200, 0.9, 0.3, 2e-3, 20
FORMS = {"mpi": "o-", "mpi-hourglass": "s-", "as in the paper": "x--"}


class Curve:
    """Observer of an adaptation: the true PSNR of each look, and the seconds to get there."""

    def __init__(self, clean: np.ndarray, noisy: torch.Tensor) -> None:
        self.clean, self.noisy = clean, noisy
        self.points: list[tuple[float, float]] = []
        self._started, self._aside = time.process_time(), 0.0

    def progress(self, done: int, total: int) -> None: ...

    @torch.no_grad()
    def step(self, step: int, predict: Any, reconstruct: Any, **numbers: Any) -> None:
        before = time.process_time()
        denoised = predict(self.noisy).float()[0].permute(1, 2, 0).numpy()
        seconds = time.process_time() - self._started - self._aside
        self.points.append((seconds, psnr(self.clean, denoised.clip(0, 1))))
        self._aside += time.process_time() - before


def ours(name: str, noisy: torch.Tensor, curve: Curve) -> None:
    """The method as it is, with the weights `name`."""
    network = checkpoints.load(name).network.eval().to(memory_format=torch.channels_last)
    with device.resolve("cpu").autocast():
        generator = torch.Generator().manual_seed(0)
        adaptation = MPI().adapt(network, noisy, generator=generator, observer=curve)
        curve.step(adaptation.steps, adaptation.predict, None)


def papers(name: str, noisy: torch.Tensor, curve: Curve) -> None:
    """Algorithm 1 of the paper, plainly."""
    network = checkpoints.load("mpi-hourglass").network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    generator, average = torch.Generator().manual_seed(0), noisy.clone()
    for step in range(1, STEPS + 1):
        mask = (torch.rand(noisy.shape, generator=generator) >= HIDDEN).float()
        filled = network(torch.cat([noisy * mask, mask], dim=1))
        average = torch.lerp(average, filled.detach(), (1 - BETA) * (1 - mask))
        loss = ((filled - noisy) * (1 - mask)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            curve.step(step, lambda _, result=average: result, None)


def middle(name: str, side: int) -> np.ndarray:
    picture = getattr(skimage.data, name)() / np.float32(255)
    top, left = (max(0, n - side) // 2 for n in picture.shape[:2])
    return picture[top : top + side, left : left + side].copy()


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("-o", "--output", default="mpi_curve.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figure = Figure(figsize=(4.5 * len(PICTURES), 3.4), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(PICTURES)), PICTURES, strict=True):
        clean = middle(name, arguments.side)
        noise = np.random.default_rng(0).normal(0, SIGMA / 255, clean.shape)
        noisy = torch.from_numpy((clean + noise).astype(np.float32)).permute(2, 0, 1)[None]
        for form, style in FORMS.items():
            fill: Callable[[str, torch.Tensor, Curve], None] = papers if " " in form else ours
            curve = Curve(clean, noisy)
            fill(form, noisy, curve)
            seconds, reached = zip(*curve.points, strict=True)
            print(name, form, *(f"{s:.0f} s {p:.2f} dB," for s, p in curve.points), flush=True)
            panel.plot(seconds, reached, style, label=form, ms=4)
        panel.set(title=name, xlabel="CPU seconds", ylabel="PSNR in dB")
        panel.legend()
    figure.savefig(arguments.output, dpi=100)


if __name__ == "__main__":
    main()
