"""GainTuning: one gain for each channel of each convolution, learned from the noisy picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import noise_level, objectives
from ..gains import fold, with_gains
from ..masking import patch_mask
from ..noise_level import NoiseLevel
from .base import Adaptation, Observer, option, random_crop, require, too_small

LOSSES = ("auto", "blind-spot", "sure", "resample")
SMALLEST_SIDE = 32
HIDDEN_SHARE = 0.05
LOOK_EVERY = 10
LAYERS = 10  # of the networks that the learning rate is meant for
# Cells that are held out: their side, their share, and the side of the crop they are looked at in.
CELL, HELD_OUT, EXAMINED = 8, 0.2, 512
# How many probes or masks each look takes, and the share of the pixels a mask hides.
PROBES, MASKS, PROBED_SHARE = 6, 2, 0.2


@dataclass(frozen=True)
class GainTuning:
    """Tune one gain per channel of every convolution of the network, and nothing else.

    Mohan et al., "Adaptive Denoising via GainTuning", NeurIPS 2021, eq. 4 to 7. The gains are about
    0.2 % of the parameters, start at 1 for each picture, and are too few to fit the noise. The
    losses need no clean picture: ``blind-spot`` asks only for noise that is independent from pixel
    to pixel, ``sure`` and ``resample`` for its level. ``auto`` is ``sure`` where the level is told
    or is found to be one for dark and bright places, and ``blind-spot`` otherwise; noise that is
    found to be correlated from pixel to pixel is not tuned to. The authors' code is not
    public: optimizer (Adam), learning rate, steps and probe are choices of this program. Large
    pictures are learned from random crops, and the learning rate falls to 0 over the steps, which
    averages the random crops and probes; it is less, in proportion, for networks of more than ten
    layers.

    Few as they are, on a small and very noisy picture the gains do fit the noise. So a fifth of the
    picture, in cells, is held out of the loss: the gains are kept of the step that it finds best
    there, and none if it is not better than the untuned network by more than chance.
    """

    any_network: ClassVar[bool] = True
    takes_noise: ClassVar[bool] = True

    loss: str = option("auto", "auto, blind-spot, sure or resample")
    steps: int = option(60, "gradient steps at most")
    lr: float = option(1e-2, "Adam learning rate of the first step, for up to 10 layers")
    crop: int = option(256, "side of the random crop a step learns from, in pixels")
    validate: bool = option(True, "keep the step that is best on the cells held out, or none")

    def __post_init__(self) -> None:
        require(self.loss in LOSSES, f"loss must be one of {', '.join(LOSSES)}, not {self.loss!r}")
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
        require(self.lr > 0, f"lr must be above 0, not {self.lr}")
        require(
            self.crop >= SMALLEST_SIDE, f"crop must be {SMALLEST_SIDE} or more, not {self.crop}"
        )

    def adapt(
        self,
        network: nn.Module,
        noisy: Tensor,
        *,
        generator: torch.Generator,
        observer: Observer,
        noise: NoiseLevel | str | None = None,
    ) -> Adaptation:
        """Tune the gains of a copy of `network` to `noisy` (N, C, Y, X), normalized."""
        smallest: int = max(SMALLEST_SIDE, network.minimum)  # type: ignore[type-var,assignment]
        multiple: int = network.multiple_of  # type: ignore[assignment]
        network = _seeing_all(network)
        if min(noisy.shape[-2:]) < smallest:
            return too_small(network, smallest, observer)
        size = min(max(self.crop, smallest), *noisy.shape[-2:]) // multiple * multiple
        if self.loss == "auto" and noise is None and noise_level.is_correlated(noisy):
            return _correlated(network, observer)
        loss, level = self._chosen(noisy, noise)
        tuned, gains = with_gains(network)
        # Gains multiply from layer to layer: many move the output as much as few larger ones.
        lr = self.lr * min(1.0, LAYERS / len(gains))
        optimizer = torch.optim.Adam(gains, lr=lr)
        held_out = _HeldOut(noisy, loss, level, generator, share=HELD_OUT * self.validate)
        candidates = _Candidates(held_out if self.validate else None, gains)
        candidates.add(0, tuned)
        observer.step(0, tuned, None, **candidates.numbers())
        for step in range(1, self.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - (step - 1) / self.steps)
            crop = random_crop(held_out.pictures, size, generator)
            value = _loss(loss, tuned, network, crop, level, generator)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if step % LOOK_EVERY == 0 or step == self.steps:
                candidates.add(step, tuned)
                observer.step(step, tuned, None, loss=value.item(), **candidates.numbers())
            observer.progress(step, self.steps)
        kept, gain = candidates.best()
        reason = self._reason(loss, level, kept)
        return Adaptation(fold(tuned), self.steps, kept, gain, reason)

    def _chosen(
        self, noisy: Tensor, noise: NoiseLevel | str | None
    ) -> tuple[str, NoiseLevel | None]:
        """The loss, and the level of the noise if the loss needs it."""
        told_other = isinstance(noise, str)
        loss = self.loss
        if loss == "auto":
            other = told_other or (noise is None and not noise_level.is_uniform(noisy))
            loss = "blind-spot" if other else "sure"
        if loss == "blind-spot":
            return loss, None
        require(
            not told_other,
            f"the loss {loss!r} cannot be computed for noise {noise!r}, only for gaussian, poisson "
            "and poisson-gaussian; use -O loss=blind-spot",
        )
        return loss, noise if isinstance(noise, NoiseLevel) else noise_level.estimate(noisy)

    def _reason(self, loss: str, level: NoiseLevel | None, kept: int) -> str:
        how = f"the {loss} loss" + (
            "" if level is None else f" at noise of sigma {level.sigma:.3g}"
        )
        if not self.validate:
            return f"all {self.steps} steps of {how}, not validated"
        if kept:
            return f"step {kept} of {self.steps} of {how} is best on the cells held out"
        return f"no step of {how} is surely better on the cells held out"


def _correlated(network: nn.Module, observer: Observer) -> Adaptation:
    observer.step(0, network, None)
    return Adaptation(
        network,
        warning="the noise is correlated between neighboring pixels, which gaintuning cannot learn "
        "from; the pretrained network alone was used (-O loss=sure tunes all the same)",
    )


class _HeldOut:
    """Cells of the picture that no step learns from, and the errors of a network there.

    Attributes
    ----------
    pictures : Tensor (N, C + 1, Y, X)
        The noisy ones, and where they may be learned from.
    """

    def __init__(
        self,
        noisy: Tensor,
        loss: str,
        level: NoiseLevel | None,
        generator: torch.Generator,
        *,
        share: float,
    ) -> None:
        size = (noisy.shape[-2], noisy.shape[-1])
        learned = patch_mask(len(noisy), size, share, CELL, generator)
        self.pictures = torch.cat([noisy, learned.to(noisy.dtype)], dim=1)
        self.level = None if loss == "blind-spot" else level
        if share:
            side = min(EXAMINED, *noisy.shape[-2:]) // CELL * CELL
            crop = random_crop(self.pictures, side, generator)
            self.examined, self.held = crop[:, :-1], 1 - crop[:, -1:]
        self.seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))

    @torch.no_grad()
    def errors(self, predict: nn.Module) -> Tensor:
        """Mean error in each held-out cell, the same random numbers in each call."""
        generator = torch.Generator(self.examined.device).manual_seed(self.seed)
        if self.level is None:
            total, count = self._blind_spot(predict, generator)
        else:
            errors = objectives.sure_map(predict, self.examined, self.level, generator, PROBES)
            total, count = errors * self.held, self.held
        # Cells of the crop need not lie where those of the picture do; a part of one counts less.
        sums, counts = F.avg_pool2d(total, CELL), F.avg_pool2d(count, CELL)
        means = sums / counts.clamp(min=1e-6)
        return means[counts > 0.5 * counts.max()]

    def _blind_spot(self, predict: nn.Module, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sums of the errors at held-out pixels that masks hide, and how often each was hidden."""
        total, count = torch.zeros_like(self.held), torch.zeros_like(self.held)
        for _ in range(MASKS):
            errors, seen = objectives.blind_spot_map(
                predict, self.examined, PROBED_SHARE, generator
            )
            total += errors * seen * self.held
            count += seen * self.held
        return total, count


class _Candidates:
    """The gains at each look and their errors on the cells held out; those of 1 are the first."""

    def __init__(self, held_out: _HeldOut | None, gains: list[nn.Parameter]) -> None:
        self.held_out, self.gains = held_out, gains
        self.steps: list[int] = []
        self.errors: list[Tensor] = []
        self.states: list[list[Tensor]] = []

    def add(self, step: int, tuned: nn.Module) -> None:
        self.steps.append(step)
        self.states.append([gain.detach().clone() for gain in self.gains])
        if self.held_out is not None:
            self.errors.append(self.held_out.errors(tuned))

    def numbers(self) -> dict[str, float | None]:
        return {"held_out": float(self.errors[-1].mean())} if self.errors else {}

    def best(self) -> tuple[int, float | None]:
        """Set the gains to the best; the step they are of, and what they win in dB."""
        kept, gain = len(self.steps) - 1, None
        if self.held_out is not None:
            kept = max(range(len(self.steps)), key=self._sure_gain)
            gain = self._decibels(kept)
        with torch.no_grad():
            for parameter, value in zip(self.gains, self.states[kept], strict=True):
                parameter.copy_(value)
        return self.steps[kept], gain

    def _sure_gain(self, index: int) -> float:
        """By how much the error falls at least, one standard error below the mean of the cells."""
        if index == 0:
            return 0.0
        falls = self.errors[0] - self.errors[index]
        if len(falls) < 2 or not bool(falls.isfinite().all()):
            return -math.inf
        return float(falls.mean() - falls.std() / len(falls) ** 0.5)

    def _decibels(self, index: int) -> float | None:
        before, after = float(self.errors[0].mean()), float(self.errors[index].mean())
        if self.held_out is None or self.held_out.level is None or min(before, after) <= 0:
            return None  # the error of a blind spot has that of the noise in it
        return 10 * math.log10(before / after)


class _AllVisible(nn.Module):
    """A network that takes a mask beside the picture, as that of MPI: nothing is hidden."""

    def __init__(self, network: nn.Module, masks: int) -> None:
        super().__init__()
        self.network, self.masks = network, masks

    def forward(self, noisy: Tensor) -> Tensor:
        mask = torch.ones_like(noisy[:, :1]).expand(-1, self.masks, -1, -1)
        denoised: Tensor = self.network(torch.cat([noisy, mask], dim=1))
        return denoised


def _seeing_all(network: nn.Module) -> nn.Module:
    config: dict[str, int] = network.config  # type: ignore[assignment]
    masks = config.get("inputs", config["channels"]) - config["channels"]
    return _AllVisible(network, masks) if masks else network


def _loss(
    name: str,
    tuned: nn.Module,
    network: nn.Module,
    crop: Tensor,
    level: NoiseLevel | None,
    generator: torch.Generator,
) -> Tensor:
    noisy, learned = crop[:, :-1], crop[:, -1:]
    if level is None:
        return objectives.blind_spot(tuned, noisy, HIDDEN_SHARE, generator, learned)
    if name == "sure":
        return objectives.sure(tuned, noisy, level, generator, learned)
    with torch.no_grad():
        estimate = network(noisy).float()
    return objectives.resample(tuned, estimate, level, generator)
