"""Which estimate of the error fits the noise of a picture, if there is something to learn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import noise_kind, noise_level
from ..defects import impulses
from ..neighbors import of_level
from ..noise_level import NoiseLevel
from ..texture import passes_for_noise
from ..validation import (
    Estimate,
    ImpulseEstimate,
    RiskEstimate,
    SteinEstimate,
    evenness,
    is_passed_over,
    noise_bound,
    noise_left,
)

# Chosen on held-out training photos: what was learned from weaker noise (on 0..1) lost more often
# than it won; noise that the network passes over may be weaker.
WEAK_NOISE, WEAKEST_NOISE = 1.2 / 255, 0.4 / 255
# Stein's estimate is of first order in the noise: of stronger one, gains of 0.1 dB were losses.
STRONG_NOISE = 45 / 255
# How many parts are looked at, across and down, where the network leaves that share of what flat
# places hold.
PARTS_ACROSS, MOSTLY_LEFT = 3, 0.5
# Of parts: pictures of that many are long enough for two to be looked at.
LONG = 1.5
STRONGEST_TEXTURE, LEAST_REMOVED = 4 / 255, 0.3
# Shares of the noise's variance in flat places, of the samples, and of how far they stand out.
# Clean photos with impulses of 1 % are found to have 0.9 to 1.1 %.
KNOWN_LEFT, IMPULSES, KNOWN_IMPULSES = 0.01, 0.007, 0.5
LEAST_IMPULSE = 0.06
# Of the energy of impulses that are passed over; texture counts as well.
OTHER_NOISE = 0.1


@dataclass(frozen=True)
class Parts:
    """Parts of a picture, and what the unadapted network makes of them.

    Attributes
    ----------
    noisy, denoised : Tensor (K, C, Y, X)
        The first ones are those to estimate errors on.
    passed_over : bool
        Whether the network passes over the noise in them.
    """

    noisy: Tensor
    denoised: Tensor
    passed_over: bool

    @classmethod
    @torch.no_grad()
    def of(cls, network: nn.Module, noisy: Tensor, part: Tensor) -> Parts:
        """The random crop `part` of `noisy` (N, C, Y, X), and what `network` makes of it.

        But where the network leaves most of what flat places hold, parts all over the picture show
        whether that is noise, which is in all of them, or texture. Errors are then estimated where
        it is the most even, which shows noise best, and on `part`, which shows what is lost.
        """
        denoised, size = network(part).float(), part.shape[-1]
        if size == max(noisy.shape[-2:]):
            return cls(part, denoised, is_passed_over(part, denoised))
        if noise_left(part, denoised) < MOSTLY_LEFT * noise_left(part, part):
            return cls(part, denoised, passed_over=False)
        parts = _spread(noisy, size)
        results = network(parts).float()
        if not is_passed_over(parts, results):
            return cls(part, denoised, passed_over=False)
        even = [evenness(*each) for each in zip(parts.split(1), results.split(1), strict=True)]
        most = even.index(max(even))

        def ordered(several: Tensor, one: Tensor) -> Tensor:
            return torch.cat([several[most : most + 1], one, several[:most], several[most + 1 :]])

        return cls(ordered(parts, part), ordered(results, denoised), passed_over=True)

    @property
    def weakest(self) -> float:
        """The standard deviation of the weakest noise to learn from."""
        return WEAKEST_NOISE if self.passed_over else WEAK_NOISE


def _spread(noisy: Tensor, size: int) -> Tensor:
    """Parts (K, C, size, size) of `noisy` (N, C, Y, X), evenly spread over rows and columns."""
    rows, columns = (
        torch.linspace(0, side - size, PARTS_ACROSS).round().int().tolist()
        for side in noisy.shape[-2:]
    )
    return _cut(noisy, rows, columns, size)


def _cut(noisy: Tensor, rows: list[int], columns: list[int], size: int) -> Tensor:
    """Parts (K, C, size, size) of `noisy` (N, C, Y, X) that begin there, of one picture each."""
    parts = [
        noisy[k % len(noisy), :, y : y + size, x : x + size]
        for k, (y, x) in enumerate(product(rows, columns))
    ]
    return torch.stack(parts).contiguous(memory_format=torch.channels_last)


def _quarters(noisy: Tensor, part: Tensor) -> Tensor:
    """The middles (K, C, size, size) of quarters of `noisy` (N, C, Y, X), as large as `part`.

    Of halves, or just `part`, where it is not half as long again as that.
    """
    size = part.shape[-1]
    if max(noisy.shape[-2:]) < LONG * size:
        return part
    counts = (2 if side >= LONG * size else 1 for side in noisy.shape[-2:])
    rows, columns = (
        [
            min(max((2 * k + 1) * side // (2 * count) - size // 2, 0), side - size)
            for k in range(count)
        ]
        for side, count in zip(noisy.shape[-2:], counts, strict=True)
    )
    return _cut(noisy, rows, columns, size)


def fitting(
    network: nn.Module, noisy: Tensor, parts: Parts, generator: torch.Generator
) -> Estimate | None:
    """What fits the noise of `noisy` (N, C, Y, X); None if `network` plainly knows that noise.

    Or if there is little but texture in `parts` of it.
    """
    part, denoised = parts.noisy[:1], parts.denoised[:1]
    level = _independent(noisy, part, denoised)
    if level is None or not level.shot:
        if (found := _impulses(part, denoised)) is not None:
            if found.are_alone:
                return ImpulseEstimate(part, found.filled, found.places, generator)
            if found.are_known:
                return None
        left = noise_left(parts.noisy, parts.denoised)
        if left < KNOWN_LEFT * noise_left(parts.noisy, parts.noisy):
            return None
        if level is None:
            # What is left hides nothing, and what it would be learned from may be texture.
            if not parts.passed_over and left <= WEAK_NOISE**2:
                return None
            return RiskEstimate(parts.noisy, parts.denoised, generator, parts.passed_over)
    # Of weak noise that a network knows it takes most away: what it leaves is texture.
    variance = float(level.variance(part).mean())
    removed = float((part - denoised).square().mean())
    if variance < STRONGEST_TEXTURE**2 and removed < LEAST_REMOVED * variance:
        return None
    if passes_for_noise(network, part, denoised, variance, generator):
        return None
    level, neighbors = of_level(part, denoised, level)
    middles = _quarters(noisy, part)
    trust = noise_level.trusted(middles, level)
    return SteinEstimate(middles, level, trust, generator, neighbors)


def _independent(noisy: Tensor, part: Tensor, denoised: Tensor) -> NoiseLevel | None:
    """The level of the noise of `noisy` (N, C, Y, X), if it is independent between pixels.

    And if much of `part` has noise of that level, and not too strong; `denoised` is what the
    network makes of that part.
    """
    if noise_kind.is_correlated(noisy):
        return None
    level = noise_kind.removed_level(noisy, part, denoised)
    if level is None or not noise_kind.is_white(part, denoised, level):
        return None
    # Noise of few photons has spikes, but none once it is made even.
    if has_impulses(part) and (not level.shot or has_impulses(_even(part, level))):
        return None
    trusted = float(noise_level.trusted(part, level).mean())
    sigma = float(level.variance(part).mean()) ** 0.5
    return level if trusted >= noise_level.LEAST_TRUSTED and sigma <= STRONG_NOISE else None


def _even(noisy: Tensor, level: NoiseLevel) -> Tensor:
    """`noisy` (N, C, Y, X) with its noise made even, on 0..1."""
    stable = level.stabilize(noisy)
    return (stable - stable.min()) / (stable.max() - stable.min()).clamp(min=1e-12)


def has_impulses(noisy: Tensor) -> bool:
    """Whether single samples stand out of the first of `noisy` (N, C, Y, X)."""
    return impulses(noisy[0].float().cpu().numpy())[0] > IMPULSES


@dataclass(frozen=True)
class _Impulses:
    """Where they are, and what is put in their place (N, C, Y, X).

    Whether the network takes them away, and whether there is next to no other noise: in that case
    the other samples are clean.
    """

    places: Tensor
    filled: Tensor
    are_known: bool
    are_alone: bool


def _impulses(noisy: Tensor, denoised: Tensor) -> _Impulses | None:
    """The impulses of `noisy` (N, C, Y, X), if there are some.

    Those that stand out of their neighbors, and those at the ends of the range that differ from
    what is there otherwise: what the network makes of it, if most impulses are gone in `denoised`,
    or else the median of the neighbors.
    """
    share, found = impulses(noisy[0].float().cpu().numpy())
    if share <= IMPULSES:
        return None
    places = torch.from_numpy(found).to(noisy.device)[None]
    neighbors = F.unfold(F.pad(noisy[0][:, None].float(), (1, 1, 1, 1), mode="replicate"), 3)
    median = neighbors.median(dim=1).values.reshape(noisy.shape)
    stood_out, stand_out = ((p - median)[places].abs().mean() for p in (noisy, denoised))
    are_known = bool(stand_out < KNOWN_IMPULSES * stood_out)
    filled = denoised if are_known else median
    ends = (noisy <= noisy.min()) | (noisy >= noisy.max())
    places = places | (ends & ((noisy - filled).abs() > LEAST_IMPULSE))
    if are_known:
        are_alone = bool((noisy - denoised)[~places].abs().median() <= WEAK_NOISE)
    else:
        without = torch.where(places, filled, noisy)
        energy = float((noisy - without).square().mean())
        are_alone = noise_bound(without) ** 2 < OTHER_NOISE * energy
    return _Impulses(places, filled, are_known, are_alone)
