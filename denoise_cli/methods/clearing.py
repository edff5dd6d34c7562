"""What no network knows goes before anything else: dead lines, impulses, bands, coarse noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .. import bayer, coarse, dead_lines, grain, hot_spots, noise_kind, stripes
from ..impulses import Impulses
from ..transforms import is_gray, of_any_size
from .base import SMALLEST_SIDE, Member, Predictor, random_crop
from .estimates import has_impulses
from .look import looked_at

Way = Callable[[Predictor], Predictor]

# Sides of the parts by which bands and coarse noise are told, and all else where there are some.
LOOKED_FOR, LEARNED_FROM = 512, 1024
FURTHER = 2  # parts of a large picture that must have grain as well
ROUNDS = 4  # in which bands are taken away, along rows or columns
# Impulses the first network knows where they are up to some share of the samples, in each color for
# itself, in a picture that is clean otherwise: it changes half of the other samples by next to
# nothing. Else it takes them, or the noise beside them, for a part of the picture, and takes more
# of that noise away once they are gone. If that is plain and it takes less away then, they went
# through a JPEG, say, and are better left.
KNOWN_SHARE, IN_ALL_COLORS, CLEAN, PLAIN, LEAST_REMOVED = 0.06, 0.5, 0.6 / 255, 2 / 255, 0.97


@dataclass(frozen=True)
class Cleared:
    """A picture without what no network knows.

    Attributes
    ----------
    noisy : Tensor (N, C, Y, X)
        It, or a part of it, whose noise is what methods learn from.
    ways : dict of callable
        What was done to that end, by what it is called, the first first: what a predictor of such
        pictures becomes for the picture as it was.
    has_grain : bool
        Whether its noise is grain, which a network of its own knows better than the first.
    """

    noisy: Tensor
    ways: dict[str, Way]
    has_grain: bool


def cleared(
    network: Member, for_grain: Member, noisy: Tensor, generator: torch.Generator
) -> Cleared:
    """`noisy` (N, C, Y, X) without what neither `network` nor the one `for_grain` knows."""
    ways: dict[str, Way] = {}
    if bayer.is_mosaic(part_of(noisy, LOOKED_FOR, like(generator))):
        noisy = noisy - bayer.colors(noisy)
        ways["colors of a mosaic set aside"] = _beside_colors
    if dead_lines.are_in(noisy):
        noisy = dead_lines.filled(noisy)
        ways["dead lines filled in"] = _after(dead_lines.filled)
    if (impulses := _unknown_impulses(network, noisy, generator)) is not None:
        noisy = impulses.filled(noisy)
        ways["impulses filled in"] = _after(impulses.filled)
    if hot_spots.are_in(part_of(noisy, LEARNED_FROM, like(generator))):
        noisy = hot_spots.filled(noisy)
        ways["hot pixels filled in"] = _after(hot_spots.filled)
    # Where there is no such noise, nothing was drawn: the picture comes out as without this.
    draws = like(generator)
    part, denoised = _looked_for(network, noisy, draws)
    axes: tuple[int, ...] = ()
    while len(axes) < ROUNDS and (axis := stripes.along(part, denoised)) is not None:
        axes = (*axes, axis)
        noisy = stripes.without(network, (axis,), part_of(noisy, LEARNED_FROM, draws))
        part, denoised = _looked_for(network, noisy, draws)
    if axes:
        ways["bands taken away"] = _after(partial(stripes.without, network, axes))
    has_grain = _has_grain(for_grain, network, noisy, part, denoised, draws)
    if has_grain:
        network = for_grain
        part, denoised = _looked_for(network, part, draws)
    times = coarse.halvings(network, part, denoised)
    # Impulses make fine noise and coarse of the same kind: the network knows them better.
    if times and not has_impulses(part):
        finer = partial(coarse.without, network, times)
        with torch.no_grad():
            noisy = finer(part_of(noisy, LEARNED_FROM, draws))
        ways[f"coarse noise taken away at 1/{2**times} of the size"] = _after(finer)
    return Cleared(noisy, ways, has_grain)


def _has_grain(
    for_grain: Member,
    network: Member,
    noisy: Tensor,
    part: Tensor,
    denoised: Tensor,
    generator: torch.Generator,
) -> bool:
    """Whether all parts of `noisy` have grain that the network `for_grain` knows.

    `part` is one of them, and `denoised` what the other `network` makes of it.
    """
    if min(part.shape[-2:]) < SMALLEST_SIDE or not noise_kind.is_correlated(part):
        return False
    if has_impulses(part):
        return False
    if not grain.is_known_to(for_grain, part, denoised):
        return False
    if noisy[:, 0].numel() <= 2 * LOOKED_FOR**2:
        return True
    others = (_looked_for(network, noisy, generator) for _ in range(FURTHER))
    return all(grain.is_known_to(for_grain, *other) for other in others)


def _after(change: Predictor) -> Way:
    """The way to predict what a `change` of the picture gives."""
    return lambda predict: lambda pictures: predict(change(pictures))


def _beside_colors(predict: Predictor) -> Predictor:
    def beside(pictures: Tensor) -> Tensor:
        colors = bayer.colors(pictures)
        return predict(pictures - colors).float() + colors

    return beside


def part_of(noisy: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """`noisy` (N, C, Y, X), or a random part of it if it is larger than a square of that side."""
    if noisy[:, 0].numel() <= side**2:
        return noisy
    return random_crop(noisy, min(side, *noisy.shape[-2:]), generator)


def like(generator: torch.Generator) -> torch.Generator:
    """One that draws the same, for draws that leave those of the other as they are."""
    copied = torch.Generator(generator.device)
    copied.set_state(generator.get_state())
    return copied


@torch.no_grad()
def _looked_for(
    network: Member, noisy: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The part of `noisy` by which bands and coarse noise are told, and what `network` makes of it.

    Both (N, C, Y, X).
    """
    part = part_of(noisy, LOOKED_FOR, generator)
    return part, of_any_size(network, part)


def _unknown_impulses(
    network: Member, noisy: Tensor, generator: torch.Generator
) -> Impulses | None:
    """The impulses of `noisy`, unless the network knows them better than their neighbors do."""
    impulses, size = Impulses.of(noisy), looked_at(noisy)
    if impulses is None or not size:
        return impulses
    part = random_crop(noisy, size, generator)
    places, filled = impulses.places(part), impulses.filled(part)
    others = filled == part
    with torch.no_grad():
        before, after = ((p - network(p).float())[others] for p in (part, filled))
    removed = float(after.abs().median())
    less = float(after.square().mean()) < LEAST_REMOVED * float(before.square().mean())
    if removed > PLAIN and less:
        return None
    in_all = places.all(dim=1).sum() > IN_ALL_COLORS * places.any(dim=1).sum()
    if impulses.share > KNOWN_SHARE or (bool(in_all) and not is_gray(part)):
        return impulses
    return impulses if removed > CLEAN else None
