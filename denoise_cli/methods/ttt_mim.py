"""TTT-MIM: test-time training with masked image modeling."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import noise_kind, noise_level
from ..adam import Adam
from ..defects import impulses
from ..masking import patch_mask
from ..neighbors import WHITE, Neighbors
from ..noise_level import NoiseLevel
from ..objectives import GRADIENT_SCALE, masked_l1
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
from .base import SMALLEST_SIDE, Adaptation, Observer, option, random_crop, require, too_small

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
KNOWN = "the network knows this noise: it leaves next to nothing of it"
FASTER, SLOWER, FASTEST = 1.4, 0.4, 2.5  # FASTEST: a step beyond it shifts colors


@dataclass(frozen=True)
class TTTMIM:
    """Train the network for a few steps to fill in hidden cells of the noisy picture.

    Mansour et al., "TTT-MIM: Test-Time Training with Masked Image Modeling for Denoising
    Distribution Shifts", ECCV 2024, eq. 3, 5 and 6: the auxiliary head reconstructs the hidden
    cells, and the main head follows its reconstruction there (the gradient does not flow back
    through it). As in the paper, a fresh mask is drawn for each step; the authors' code draws one
    for all steps, weights both losses alike and has its learning rate, mask ratio and patch chosen
    by hand for each data set. Here one setting serves every picture, large pictures are learned
    from random crops, and no step changes the brightness of a channel: L1 losses lead to the median
    of the noise, which is not its mean where the dark is clipped. An estimate of the error that
    needs no clean picture (see `denoise_cli.validation`) steers the steps: they get longer while it
    falls, a step that raises it is taken back and the next is shorter. The weights of the step with
    the least estimated error are kept, the unadapted ones if no step gains at least 1.3 dB, or 0.5
    where the network passes over the noise so that all of a flat place shows it; where the noise is
    white and its level can be told, that is Stein's estimate, and where there are impulses alone,
    what they cover is tried out elsewhere; both are exact enough to be followed for a gain of 0.15
    and 0.1. Where the network leaves next to nothing of noise that is even there is
    nothing to gain, and where the noise is so weak that texture drowns it, nothing can be
    estimated, and there is no adaptation at all.
    """

    steps: int = option(8, "gradient steps at most")
    lr: float = option(1e-4, "AdamW learning rate of the first step")
    mask_ratio: float = option(0.4, "fraction of the cells hidden in each step")
    mask_patch: int = option(4, "side of a cell, in pixels")
    alpha: float = option(1.0, "weight of the pseudo-denoising loss")
    crop: int = option(256, "side of the random crop a step learns from, in pixels")
    validate: bool = option(True, "steer by the estimated error; without it all steps are kept")

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
        require(self.lr > 0, f"lr must be above 0, not {self.lr}")
        require(
            0 < self.mask_ratio < 1, f"mask_ratio must be between 0 and 1, not {self.mask_ratio}"
        )
        require(self.mask_patch >= 1, f"mask_patch must be 1 or more, not {self.mask_patch}")
        require(self.alpha >= 0, f"alpha must be 0 or more, not {self.alpha}")
        require(
            self.crop >= SMALLEST_SIDE, f"crop must be {SMALLEST_SIDE} or more, not {self.crop}"
        )

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Adapt a copy of `network` to `noisy` (N, C, Y, X), normalized."""
        if min(noisy.shape[-2:]) < SMALLEST_SIDE:
            return too_small(network, SMALLEST_SIDE, observer)
        multiple = network.multiple_of
        size = min(self.crop, *noisy.shape[-2:]) // multiple * multiple
        adapted = copy.deepcopy(network).train()
        optimizer = Adam(adapted.parameters(), self.lr)
        risk: Estimate | None = None
        part = random_crop(noisy, size, generator)
        if self.validate:
            look = _Look.at(network, noisy, part)
            part, bound = look.parts[:1], noise_bound(look.parts)
            if bound < look.weakest:
                observer.step(0, network, None)
                sigma = 255 * bound
                reason = f"noise of sigma {sigma:.1f} of 255 at most is too weak to learn from"
                return Adaptation(network, reason=reason)
            risk = _estimate(noisy, look, generator)
            if risk is None:
                observer.step(0, network, None)
                return Adaptation(network, reason=KNOWN)
        candidates = _Candidates(risk, part)
        candidates.add(adapted)
        mask = self._mask(noisy, size, generator)
        observer.step(0, adapted, partial(_reconstruct, adapted, mask), **candidates.numbers())
        for step in range(1, self.steps + 1):
            crop = random_crop(noisy, size, generator)
            mask = self._mask(noisy, size, generator)
            losses = self._step(adapted, optimizer, crop, mask)
            candidates.add(adapted)
            reconstruct = partial(_reconstruct, adapted, mask)
            observer.step(step, adapted, reconstruct, **losses, **candidates.numbers())
            observer.progress(step, self.steps)
            candidates.steer(adapted, optimizer, FASTEST * self.lr)
            if candidates.hopeless():
                observer.progress(self.steps, self.steps)
                break
        return candidates.best(adapted.eval())

    def _mask(self, noisy: Tensor, size: int, generator: torch.Generator) -> Tensor:
        return patch_mask(1, (size, size), self.mask_ratio, self.mask_patch, generator)

    def _step(
        self, network: nn.Module, optimizer: Adam, crop: Tensor, mask: Tensor
    ) -> dict[str, float]:
        denoised, reconstruction = network.joint(crop, crop, mask)  # type: ignore[operator]
        reconstruct_loss = masked_l1(reconstruction, crop, mask)
        denoise_loss = masked_l1(denoised, reconstruction.detach(), mask)
        optimizer.zero_grad()
        (GRADIENT_SCALE * (reconstruct_loss + self.alpha * denoise_loss)).backward()
        optimizer.step()
        return {"loss_reconstruct": reconstruct_loss.item(), "loss_denoise": denoise_loss.item()}


@dataclass(frozen=True)
class _Candidate:
    """The network after a step: its estimated error, and what brings it back."""

    error: float
    state: dict[str, Tensor]
    config: dict[str, Any]


class _Candidates:
    """The networks after each step with their estimated errors; step 0 is always one of them.

    What the others make of `part` (1, C, Y, X) of the picture is as bright as what step 0 does.
    """

    def __init__(self, risk: Estimate | None, part: Tensor) -> None:
        self.risk = risk
        self._steps: list[_Candidate] = []
        self._part = part
        self._brightness: Tensor | None = None

    def add(self, network: nn.Module) -> None:
        with torch.no_grad():
            brightness = network(self._part).float().mean(dim=(0, 2, 3))
        if self._brightness is None:
            self._brightness = brightness
        else:
            network.brighten(self._brightness - brightness)  # type: ignore[operator]
        error = self.risk(network) if self.risk else math.nan
        state = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._steps.append(_Candidate(error, state, network.config))  # type: ignore[arg-type]

    def steer(self, network: nn.Module, optimizer: Adam, highest: float) -> None:
        """Go faster while the estimated error falls; otherwise go back to the best, and slower."""
        if self.risk is None:
            return
        best = min(
            self._steps, key=lambda step: step.error if math.isfinite(step.error) else math.inf
        )
        factor = FASTER if best is self._steps[-1] else SLOWER
        if factor == SLOWER:
            network.load_state_dict(best.state)
        optimizer.lr = min(optimizer.lr * factor, highest)

    def numbers(self) -> dict[str, float | None]:
        if self.risk is None:
            return {}
        last = self._steps[-1]
        return {"estimated_mse": last.error, "estimated_gain_db": self._gain(last)}

    def hopeless(self) -> bool:
        """Two steps from the unadapted weights made it worse: the network knows this noise."""
        return (
            self.risk is not None
            and len(self._steps) == 3
            and all(self._gain(step) < 0 for step in self._steps[1:])
        )

    def _gain(self, step: _Candidate) -> float:
        assert self.risk is not None
        return self.risk.gain_db(self._steps[0].error, step.error)

    def best(self, network: nn.Module) -> Adaptation:
        taken = len(self._steps) - 1
        if self.risk is None:
            return Adaptation(network, taken, taken, None, f"all {taken} steps, not validated")
        gains = [self._gain(step) for step in self._steps]
        kept = max(range(taken + 1), key=gains.__getitem__)
        if gains[kept] < self.risk.least_gain_db:
            kept = 0
        network.load_state_dict(self._steps[kept].state)
        network.config = self._steps[kept].config  # type: ignore[assignment]
        if kept:
            reason = f"step {kept} of {taken} has the least estimated error"
        else:
            reason = f"none of {taken} steps is estimated to improve on the unadapted network"
        return Adaptation(network, taken, kept, gains[kept], reason)


@dataclass(frozen=True)
class _Look:
    """Parts of a picture, and what the unadapted network makes of them.

    Attributes
    ----------
    parts, denoised : Tensor (K, C, Y, X)
        The first ones are those to estimate errors on.
    passed_over : bool
        Whether the network passes over the noise in them.
    """

    parts: Tensor
    denoised: Tensor
    passed_over: bool

    @classmethod
    @torch.no_grad()
    def at(cls, network: nn.Module, noisy: Tensor, part: Tensor) -> _Look:
        """At the random crop `part` of `noisy` (N, C, Y, X).

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


def _estimate(noisy: Tensor, look: _Look, generator: torch.Generator) -> Estimate | None:
    """What fits the noise of `noisy` (N, C, Y, X); None if the network plainly knows that noise."""
    part, denoised = look.parts[:1], look.denoised[:1]
    level = _independent(noisy, part, denoised)
    if level is None or not level.shot:
        if (found := _impulses(part, denoised)) is not None:
            if found.are_alone:
                return ImpulseEstimate(part, found.filled, found.places, generator)
            if found.are_known:
                return None
        left = noise_left(look.parts, look.denoised)
        if left < KNOWN_LEFT * noise_left(look.parts, look.parts):
            return None
        if level is None:
            # What is left hides nothing, and what it would be learned from may be texture.
            if not look.passed_over and left <= WEAK_NOISE**2:
                return None
            return RiskEstimate(look.parts, look.denoised, generator, passed_over=look.passed_over)
    # Of weak noise that a network knows it takes most away: what it leaves is texture.
    variance = level.variance(part).mean()
    removed = (part - denoised).square().mean()
    if variance < STRONGEST_TEXTURE**2 and removed < LEAST_REMOVED * variance:
        return None
    neighbors = WHITE
    if level.shot:
        neighbors = Neighbors.of(part, denoised, level, noise_level.trusted(part, level))
    level = NoiseLevel(level.shot * neighbors.times, level.read * neighbors.times)
    parts = _quarters(noisy, part)
    trust = noise_level.trusted(parts, level)
    return SteinEstimate(parts, level, trust, generator, neighbors)


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


def _reconstruct(network: nn.Module, mask: Tensor, pictures: Tensor) -> Tensor:
    whole = torch.ones(pictures.shape[0], 1, *pictures.shape[-2:], device=pictures.device)
    rows, columns = (min(a, b) for a, b in zip(mask.shape[-2:], whole.shape[-2:], strict=True))
    whole[..., :rows, :columns] = mask[..., :rows, :columns]
    reconstruction: Tensor = network.reconstruct(pictures, whole)  # type: ignore[operator]
    return reconstruction
