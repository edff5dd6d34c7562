"""Adaptation to the noise of one picture: its estimate gets such noise anew, and loses it again.

The picture y = x + n is denoised to an estimate z. The network then learns for a few steps to find
z in z + m, where m is noise like n: drawn from its level where that is known, or else what was
taken from y at another place, which has the strength, the color and the correlation of n whatever
its kind. A network that was taught many kinds of noise, or many strengths of one, comes to know the
one that it meets, and what the picture itself looks like.

Source: the noise resampling of Mohan et al., "Adaptive denoising via GainTuning", NeurIPS 2021,
eq. 7, after Vaksman et al., "LIDIA", CVPR workshops 2020. Differs from both: all weights learn, the
estimate is a mean of passes, and noise of unknown kind is the residual y - z, moved.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from . import lanes
from .adam import Adam
from .noise_level import NoiseLevel
from .objectives import GRADIENT_SCALE, Predict
from .orientation import ORIENTATIONS, turned
from .transforms import as_gray_as

# Chosen on held-out training photos under ten kinds of noise.
PATCHES, SIDE = 2, 64


@dataclass(frozen=True)
class Pair:
    """A part of a picture and what was made of it, both (1, C, Y, X); sides of at least `SIDE`.

    Noise that is independent between pixels may have some `times` (1, 1, Y, X) the variance of its
    level.
    """

    noisy: Tensor
    estimate: Tensor
    times: Tensor

    @classmethod
    def of(cls, noisy: Tensor, estimate: Tensor, times: Tensor | None = None) -> Pair:
        """Of a gray picture the planes of the estimate are made equal, as those of its noise."""
        noisy, estimate = noisy.float(), as_gray_as(estimate.float(), noisy)
        return cls(noisy, estimate, torch.ones_like(noisy[:, :1]) if times is None else times)


def tune(
    network: nn.Module,
    as_predictor: Callable[[nn.Module], Predict],
    pairs: Sequence[Pair],
    level: NoiseLevel | None,
    *,
    steps: int,
    lr: float,
    generator: torch.Generator,
    report: Callable[[int, float], None],
) -> None:
    """Teach `network` to denoise noise like that of `pairs`.

    Parameters
    ----------
    network : nn.Module
        Its weights are changed in place.
    as_predictor : callable
        What makes of it, or of a copy, a predictor on the scale of `pairs`.
    pairs : sequence of Pair
        Parts of one picture.
    level : NoiseLevel or None
        That of noise that is independent between pixels; None for any other, which is moved.
    steps : int
        Gradient steps.
    lr : float
        Learning rate of the first step; it falls to zero along them.
    generator : torch.Generator
        Draws places, orientations and noise.
    report : callable
        Takes each step and its loss.
    """
    learner = _rounded(network)
    predict, learned = as_predictor(learner), list(learner.parameters())
    parameters = list(network.parameters())
    optimizer = Adam(parameters, lr)
    low = min(float(pair.noisy.min()) for pair in pairs)
    high = max(float(pair.noisy.max()) for pair in pairs)

    def learn(patch: tuple[Tensor, Tensor]) -> tuple[float, tuple[Tensor | None, ...]]:
        noisy, clean = patch
        if level is not None:
            # What is clipped in the picture is clipped when it is made noisy again. Noise that was
            # moved to a darker place may be too strong there: its mean would shift.
            noisy = noisy.clamp(low, high)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        loss = (predict(noisy) - clean).square().mean()
        scaled = loss * (GRADIENT_SCALE / PATCHES)
        return float(loss.detach()), torch.autograd.grad(scaled, learned, allow_unused=True)

    @torch.no_grad()
    def update(some: slice) -> None:
        for gradients, parameter in zip(every[some], parameters[some], strict=True):
            parameter.grad = _sum(gradients, parameter.dtype)
        optimizer.step(parameters[some])
        if learner is not network:
            for rounded, parameter in zip(learned[some], parameters[some], strict=True):
                rounded.copy_(parameter)

    shares = [slice(start, None, lanes.count()) for start in range(lanes.count())]
    for step in range(1, steps + 1):
        optimizer.lr = lr * (1 - (step - 1) / steps)
        drawn = (_patches(pairs, level, generator) for _ in range(PATCHES))
        errors, of_each = zip(*lanes.each(learn, drawn), strict=True)
        every = list(zip(*of_each, strict=True))
        for _ in lanes.each(update, shares):
            pass
        report(step, sum(errors) / PATCHES)


def _rounded(network: nn.Module) -> nn.Module:
    """A copy whose weights are what autocast makes of them, so that no pass has to; or itself.

    A network works out the same with it, and its gradients are the same.
    """
    with torch.no_grad():
        weight = next(network.parameters())[:1].flatten(1)
        dtype = lanes.autocast_dtype(weight)
    return network if dtype == weight.dtype else copy.deepcopy(network).to(dtype)


def _sum(gradients: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor | None:
    some = [gradient for gradient in gradients if gradient is not None]
    return reduce(torch.add, some[1:], some[0].to(dtype)) if some else None


def _patches(
    pairs: Sequence[Pair], level: NoiseLevel | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A patch of an estimate, noisy anew and as it is, in a random orientation."""

    def draw(count: int) -> int:
        return int(torch.randint(count, (), generator=generator, device=generator.device))

    def patch(pictures: Tensor, y: int, x: int) -> Tensor:
        return pictures[..., y : y + SIDE, x : x + SIDE]

    def place(pair: Pair) -> tuple[int, int]:
        rows, columns = pair.noisy.shape[-2:]
        return draw(rows - SIDE + 1), draw(columns - SIDE + 1)

    pair = pairs[draw(len(pairs))]
    here = place(pair)
    clean = patch(pair.estimate, *here)
    if level is not None:
        noisy = level.sample(clean, generator, patch(pair.times, *here))
    else:
        other = pairs[draw(len(pairs))]
        there = place(other)
        noisy = clean + patch(other.noisy, *there) - patch(other.estimate, *there)
    orientation = draw(ORIENTATIONS)
    return turned(noisy, orientation), turned(clean, orientation)
