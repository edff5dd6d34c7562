"""What the parts of meta-transfer learning are worth: table 3 of its paper, on pairs of yours.

    python tests/benchmarks/meta_ablation.py --noisy CC15 --clean CC15 --crop 128 \\
        meta-transfer stage1.safetensors scratch.safetensors

One line for each checkpoint and each part that adapts, heads or all, without validation: PSNR and
SSIM before and after, and in how many pictures adapting won. Checkpoints of the paper's ablation
are made by leaving out a stage of `denoise train --recipe meta`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from denoise_cli import Denoiser
from denoise_cli.cli.pairs import Pair, real
from denoise_cli.cli.score import pictures
from denoise_cli.metrics import psnr, ssim

Pairs = list[tuple[np.ndarray, np.ndarray]]
SETTINGS: dict[str, dict[str, Any]] = {
    "before": {"steps": 0},
    "heads": {"part": "heads", "validate": False},
    "all": {"part": "all", "validate": False},
    "heads, validated": {"part": "heads"},
}


def load(pairs: list[Pair], crop: int) -> Pairs:
    """Noisy and clean central parts of the pictures, float on 0..1."""
    loaded = []
    for pair in pairs:
        image, truth = pair.load()
        first, second = pictures(image.samples, image.axes)[0], truth[0]
        y, x = (max(0, (side - crop) // 2) for side in first.shape[:2])
        window = (slice(y, y + crop), slice(x, x + crop))
        loaded.append((first[window], second[window]))
    return loaded


def score(weights: str, options: dict[str, Any], pairs: Pairs) -> np.ndarray:
    """PSNR and SSIM of each picture (N, 2)."""
    denoiser = Denoiser("meta-transfer", weights=weights, options=options)
    results = ((clean, denoiser(noisy)) for noisy, clean in pairs)
    return np.array([(psnr(clean, result), ssim(clean, result)) for clean, result in results])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--noisy", type=Path, required=True)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    pairs = load(real(arguments.noisy, arguments.clean, limit=arguments.limit), arguments.crop)
    noisy = np.array([(psnr(clean, noisy), ssim(clean, noisy)) for noisy, clean in pairs])
    print(f"{len(pairs)} pairs, noisy {noisy[:, 0].mean():.3f} dB {noisy[:, 1].mean():.4f}")
    for weights in arguments.weights:
        before = np.zeros((len(pairs), 2))
        for name, options in SETTINGS.items():
            scores = score(weights, options, pairs)
            before = scores if name == "before" else before
            gains = scores[:, 0] - before[:, 0]
            print(
                f"{Path(weights).stem:16} {name:18}"
                f"{scores[:, 0].mean():8.3f} dB {scores[:, 1].mean():.4f}"
                f"{gains.mean():+8.4f} dB, worst {gains.min():+.4f}, "
                f"won {(gains > 0).sum()}, lost {(gains < 0).sum()}",
                flush=True,
            )


if __name__ == "__main__":
    main()
