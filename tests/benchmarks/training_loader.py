"""Whether the loader keeps up: seconds a training step takes with and without making its batches.

    python tests/benchmarks/training_loader.py PHOTOS [STEPS]

Batches are made by threads while the network learns from the one before. The ratio printed is that
of steps with batches made on the way to steps with one batch that is there already.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from denoise_cli import device as devices, networks, noise
from denoise_cli.training.data import Patches, load_photos, prefetch, to_tensor
from denoise_cli.training.optimizer import Optimizer
from denoise_cli.training.recipes import load_recipe
from denoise_cli.training.source import add_noise


def main() -> None:
    """Print seconds a step with and without loading, and their ratio."""
    folder, steps = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 40
    device = devices.resolve()
    recipe = load_recipe("ttt-mim")
    patches = Patches(load_photos(folder), patch=recipe.patch, batch=recipe.batch, seed=0, gray=0.2)
    network = networks.build(recipe.network).to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Optimizer(network, recipe.lr, recipe.weight_decay)
    generator = torch.Generator(device.torch).manual_seed(0)
    model = noise.parse("gaussian:0-55")

    def step(clean: torch.Tensor) -> None:
        with device.autocast():
            loss, _ = recipe.loss(network, *add_noise(model, clean, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    ready = to_tensor(patches(0), device.torch)
    for _ in range(5):
        step(ready)
    seconds = {}
    started = time.perf_counter()
    for _ in range(steps):
        step(ready)
    seconds["without loading"] = (time.perf_counter() - started) / steps
    started = time.perf_counter()
    for batch in prefetch(patches, 0, steps, workers=2):
        step(to_tensor(batch, device.torch))
    seconds["with loading"] = (time.perf_counter() - started) / steps
    for name, value in seconds.items():
        print(f"{name}: {1000 * value:.1f} ms a step")
    print(f"ratio {seconds['with loading'] / seconds['without loading']:.2f}")


if __name__ == "__main__":
    main()
