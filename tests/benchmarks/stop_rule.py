"""Where the adaptation of ttt-mim stops, against the best step and against a fixed number.

    python tests/benchmarks/stop_rule.py --pairs PolyU PolyU --noise CBSD68 gaussian:25 \\
        --crop 256 --limit 4 ttt-mim-gaussian ttt-mim

One line for each checkpoint and set, of the mean PSNR over central parts of its pictures: of the
noisy pictures, unadapted, with the rule, after a fixed 8 steps as in the paper, and of the
oracle, which knows the clean picture and takes the best step of either run (0 included: the rule's
own ends early, and may not start at all); how many pictures come within 0.15 dB of the oracle, and
the largest loss to it and to the unadapted network. `-v` adds a line for each picture. Folders of
pairs may be the same one; noise is added to clean folders, the same for every checkpoint.

With `--without-edges 0.2` the fifth of each picture that is nearest to the steepest edges of the
clean one is not scored: where the mean of many shots is the reference, these may differ by more
than noise, by what moved between the shots and by how the camera sharpened each.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from meta_ablation import Pairs, load
from scipy.ndimage import gaussian_gradient_magnitude, maximum_filter

from denoise_cli import Denoiser
from denoise_cli.cli.pairs import real, synthetic
from denoise_cli.metrics import psnr
from denoise_cli.normalize import Scale

CLOSE = 0.15  # dB


@dataclass
class Curve:
    """The true PSNR after each step of an adaptation: what a `Denoiser` traces goes here.

    Of the pixels that are `scored`.
    """

    clean: np.ndarray
    scored: np.ndarray
    psnr: list[float] = field(default_factory=list)

    def region(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The whole picture."""
        return slice(0, shape[0]), slice(0, shape[1])

    def record(
        self, step: int, denoised: np.ndarray, reconstruction: object, **numbers: float | None
    ) -> None:
        """Score a step (0 = unadapted)."""
        self.psnr.append(psnr(self.clean[self.scored], denoised[self.scored]))


@dataclass(frozen=True)
class Scores:
    """PSNR of one picture."""

    noisy: float
    unadapted: float
    kept: float
    fixed: float
    oracle: float
    kept_step: int
    oracle_step: int


def away_from_edges(clean: np.ndarray, share: float) -> np.ndarray:
    """The pixels (Y, X) of `clean` (Y, X[, 3]), without that share of them nearest to edges."""
    planes = np.moveaxis(np.atleast_3d(clean), -1, 0)
    slopes = np.max([gaussian_gradient_magnitude(plane, 1.0) for plane in planes], axis=0)
    around = maximum_filter(slopes, 5)
    return around <= np.quantile(around, 1 - share)


def measure(
    validated: Denoiser, fixed: Denoiser, noisy: np.ndarray, clean: np.ndarray, edges: float
) -> Scores:
    """Adapt to one picture twice, with and without the rule; a share of `edges` is not scored."""
    seen = Scale.of(noisy).forward(clean)  # as a network sees it, which is where steps are traced
    scored = away_from_edges(clean, edges)
    by_rule, by_number = Curve(seen, scored), Curve(seen, scored)
    result = validated.run(noisy, trace=by_rule)
    fixed.run(noisy, trace=by_number)
    best = max((by_rule.psnr, by_number.psnr), key=max)
    return Scores(
        noisy=psnr(clean[scored], noisy[scored]),
        unadapted=by_rule.psnr[0],
        kept=psnr(clean[scored], result.samples[scored]),
        fixed=by_number.psnr[-1],
        oracle=max(best),
        kept_step=result.kept_step,
        oracle_step=int(np.argmax(best)),
    )


def sets(arguments: argparse.Namespace) -> dict[str, Pairs]:
    """The pictures of each set that was asked for."""
    limit, crop = arguments.limit, arguments.crop
    found = {
        noisy.parent.name if noisy.name == "raw" else noisy.name: load(
            real(noisy, clean, limit=limit), crop
        )
        for noisy, clean in (map(Path, folders) for folders in arguments.pairs)
    }
    for folder, spec in arguments.noise:
        clean = Path(folder)
        pairs = synthetic(clean, [spec], seed=arguments.seed, limit=limit)
        found[f"{clean.name} {spec}"] = load(pairs, crop)
    return found


def line(title: str, scores: list[Scores]) -> str:
    """A row of the table."""
    names = ("noisy", "unadapted", "kept", "fixed", "oracle")
    means = [np.mean([getattr(score, name) for score in scores]) for name in names]
    behind = [score.oracle - score.kept for score in scores]
    lost = max(score.unadapted - score.kept for score in scores)
    close = sum(gap <= CLOSE for gap in behind)
    return (
        f"{title:32}"
        + "".join(f"{mean:10.2f}" for mean in means)
        + f"{np.mean(behind):9.2f}{max(behind):7.2f}{max(lost, 0):7.2f}{close:5} of {len(scores)}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="*", default=["ttt-mim-gaussian"])
    parser.add_argument("--pairs", nargs=2, action="append", default=[], metavar=("NOISY", "CLEAN"))
    parser.add_argument("--noise", nargs=2, action="append", default=[], metavar=("CLEAN", "SPEC"))
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-edges", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loaded = sets(arguments)
    heads = "".join(f"{head:>10}" for head in ("noisy", "unadapted", "kept", "fixed 8", "oracle"))
    print(f"{'PSNR in dB':32}{heads}{'behind':>9}{'worst':>7}{'lost':>7}  close")
    for weights in arguments.weights:
        validated = Denoiser("ttt-mim", weights=weights, seed=arguments.seed)
        fixed = Denoiser(
            "ttt-mim", weights=weights, seed=arguments.seed, options={"validate": False}
        )
        everything: list[list[Scores]] = []
        for title, pairs in loaded.items():
            everything.append([])
            for noisy, clean in pairs:
                scores = measure(validated, fixed, noisy, clean, arguments.without_edges)
                everything[-1].append(scores)
                if arguments.verbose:
                    steps = f"  kept {scores.kept_step}, oracle {scores.oracle_step}"
                    print(line("", [scores]) + steps, flush=True)
            print(line(f"{Path(weights).stem}: {title}", everything[-1]), flush=True)
        gaps = [np.mean([s.kept - s.oracle for s in scores]) for scores in everything]
        ahead = [np.mean([s.kept - s.fixed for s in scores]) for scores in everything]
        print(
            f"{Path(weights).stem}, mean of {len(everything)} sets: {np.mean(gaps):+.2f} dB to "
            f"the oracle, {np.mean(ahead):+.2f} dB to fixed 8 steps",
            flush=True,
        )


if __name__ == "__main__":
    main()
