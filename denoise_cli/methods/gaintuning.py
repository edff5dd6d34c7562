"""GainTuning: one gain for each channel of each convolution, learned from the noisy picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import noise_kind, noise_level, objectives, views
from ..adam import Adam
from ..gains import fold, with_gains
from ..masking import patch_mask
from ..noise_level import NoiseLevel
from ..transforms import as_gray_as
from ..views import SMALLEST_ERROR, Shown, View, sure_fall
from .base import Adaptation, Observer, option, random_crop, require, too_small

LOSSES = ("auto", "blind-spot", "sure", "resample")
SMALLEST_SIDE = 32
HIDDEN_SHARE = 0.05
LOOK_EVERY = 10
LAYERS = 10  # of the networks that the learning rate is meant for
# Cells that are held out: their side, their share, and the side of the crop they are looked at in.
CELL, HELD_OUT, EXAMINED = 8, 0.2, 512
# Steps in which the learning rate falls to 0, and the share of the error that they must take away
# for as many more to be taken.
ROUND, WORTH = 60, 0.02
# Of the variance of the noise, where its level is estimated: texture passes for noise.
LEAST_VARIANCE = 0.9
# How many probes or masks each look takes, and the share of the pixels a mask hides.
PROBES, MASKS, PROBED_SHARE = 6, 2, 0.2
CORRELATED = (
    "the noise is correlated between neighboring pixels, for which no loss of gaintuning is made: "
    "the picture may be worse than without tuning (-m none), or without loss="
)


@dataclass(frozen=True)
class GainTuning:
    """Tune one gain per channel of every convolution of the network, and nothing else.

    Mohan et al., "Adaptive Denoising via GainTuning", NeurIPS 2021, eq. 4 to 7. The gains are about
    0.2 % of the parameters, start at 1 for each picture, and are too few to fit the noise. The
    losses need no clean picture: ``blind-spot`` asks only for noise that is independent from pixel
    to pixel, ``sure`` and ``resample`` for its level. ``auto`` is ``sure`` where the level is told
    or can be estimated, one for all brightnesses or Poisson-Gaussian, and ``blind-spot`` otherwise;
    noise that is found to be correlated from pixel to pixel is not tuned to. The authors' code is
    not public: optimizer (Adam), learning rate, steps and probe are choices of this program. Large
    pictures are learned from random crops, and the learning rate falls to 0 over 60 steps, which
    averages the random crops and probes; it is less, in proportion, for networks of more than ten
    layers. Where those steps took a share of the error away, as of a picture unlike all that the
    network was trained on, as many more are taken.

    Few as they are, on a small and very noisy picture the gains do fit the noise. So a fifth of the
    picture, in cells, is held out of the loss: the gains are kept of the step that it finds best
    there, and none if it is not better than the untuned network by more than chance. Where the
    level of the noise is estimated, it has to be better at a tenth less variance too: of finely
    textured pictures the estimate is too high, and what is smoother then seems better.

    Not in the paper: where the level of the noise is known, the network may be shown the picture
    in another way before anything is tuned (``view``), if an estimate of the error like SURE finds
    that surely better. Noise that depends on the brightness is stabilized, to be as even as that of
    the training, and the result brought back without bias; white noise beyond the training is
    scaled down together with the picture (`denoise_cli.views`). The gains are tuned in that view.
    Places where samples are clipped, or fewer than one photon is counted, are left out of loss and
    choice under noise that depends on the brightness, since SURE does not hold there.
    """

    any_network: ClassVar[bool] = True
    takes_noise: ClassVar[bool] = True

    loss: str = option("auto", "auto, blind-spot, sure or resample")
    steps: int = option(240, "gradient steps at most; after each 60, only if they are worth it")
    lr: float = option(1e-2, "Adam learning rate of the first step, for up to 10 layers")
    crop: int = option(256, "side of the random crop a step learns from, in pixels")
    validate: bool = option(True, "keep the step that is best on the cells held out, or none")
    view: bool = option(True, "stabilize or scale the noise, where that is estimated to be better")

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
        correlated = noise is None and noise_kind.is_correlated(noisy)
        if correlated and self.loss == "auto":
            return _correlated(network, observer)
        loss, level = self._chosen(noisy, noise)
        trust = torch.ones_like(noisy[:, :1])
        if level is not None and level.shot:
            trust = noise_level.trusted(noisy, level)
            if float(trust.mean()) < noise_level.LEAST_TRUSTED:
                return _untrusted(network, observer)
        told = isinstance(noise, NoiseLevel)
        picture = _Picture(noisy, trust, level, (1.0,) if told else (1.0, LEAST_VARIANCE))
        shown, ratio = picture, 1.0
        if self.view and level is not None:
            shown, ratio = picture.best_shown(network, generator)
        tuned = self._tuned(network, shown, loss, size, ratio, generator, observer)
        return replace(tuned, warning=CORRELATED) if correlated and tuned.kept_step else tuned

    def _tuned(
        self,
        network: nn.Module,
        picture: _Picture,
        loss: str,
        size: int,
        ratio: float,
        generator: torch.Generator,
        observer: Observer,
    ) -> Adaptation:
        """Tune to `picture` as it is shown, which has brought errors to `ratio` already."""
        tuned, gains = with_gains(network)
        # Gains multiply from layer to layer: many move the output as much as few larger ones.
        lr = self.lr * min(1.0, LAYERS / len(gains))
        optimizer = Adam(gains, lr)
        held_out = _HeldOut(picture, loss, generator, share=HELD_OUT * self.validate)
        candidates = _Candidates(held_out if self.validate else None, gains)
        predict, level = picture.predictor(tuned), held_out.level
        candidates.add(0, tuned)
        observer.step(0, predict, None, **candidates.numbers())
        step = 0
        length = min(ROUND, self.steps) if self.validate else self.steps
        for step in range(1, self.steps + 1):
            optimizer.lr = lr * (1 - (step - 1) % length / length)
            crop = random_crop(held_out.pictures, size, generator)
            value = _loss(loss, tuned, network, crop, level, generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if step % LOOK_EVERY == 0 or step == self.steps:
                candidates.add(step, tuned)
                observer.step(step, predict, None, loss=value.item(), **candidates.numbers())
            observer.progress(step, self.steps)
            if step % length == 0 and not candidates.goes_on():
                observer.progress(self.steps, self.steps)
                break
        kept, gain = candidates.best()
        if kept and self.validate and not picture.is_better(tuned, network, generator):
            kept, gain = candidates.untuned()
        if picture.view is not None and ratio != 1:
            gain = (gain or 0.0) - 10 * math.log10(ratio)
        reason = self._reason(loss, level, kept, step)
        if picture.view is not None:
            reason += f"; the picture was {picture.view} for the network"
        return Adaptation(picture.predictor(fold(tuned)), step, kept, gain, reason)

    def _chosen(
        self, noisy: Tensor, noise: NoiseLevel | str | None
    ) -> tuple[str, NoiseLevel | None]:
        """The loss, and the level of the noise if the loss needs it."""
        told_other = isinstance(noise, str)
        loss = self.loss
        if loss == "auto":
            loss = "blind-spot" if told_other else "sure"
        if loss == "blind-spot":
            return loss, None
        require(
            not told_other,
            f"the loss {loss!r} cannot be computed for noise {noise!r}, only for gaussian, poisson "
            "and poisson-gaussian; use -O loss=blind-spot",
        )
        if isinstance(noise, NoiseLevel):
            return loss, noise
        if noise_kind.is_uniform(noisy):
            return loss, noise_level.estimate(noisy)
        level = noise_level.estimate_poisson_gaussian(noisy)
        if level is None and self.loss == "auto":
            return "blind-spot", None
        return loss, level or noise_level.estimate(noisy)

    def _reason(self, loss: str, level: NoiseLevel | None, kept: int, taken: int) -> str:
        how = f"the {loss} loss" + (
            "" if level is None else f" at noise of sigma {level.sigma:.3g}"
        )
        if not self.validate:
            return f"all {taken} steps of {how}, not validated"
        if kept:
            return f"step {kept} of {taken} of {how} is best on the cells held out"
        return f"no step of {how} is surely better on the cells held out"


def _correlated(network: nn.Module, observer: Observer) -> Adaptation:
    observer.step(0, network, None)
    return Adaptation(
        network,
        warning="the noise is correlated between neighboring pixels, which gaintuning cannot learn "
        "from; the pretrained network alone was used",
    )


def _untrusted(network: nn.Module, observer: Observer) -> Adaptation:
    observer.step(0, network, None)
    return Adaptation(
        network,
        warning="most of the picture is clipped or has less than one photon a pixel, which "
        "gaintuning cannot learn from; the pretrained network alone was used "
        "(-O loss=blind-spot tunes all the same)",
    )


@dataclass(frozen=True)
class _Picture:
    """A noisy picture as a network is shown it.

    Attributes
    ----------
    noisy : Tensor (N, C, Y, X)
    trust : Tensor (N, 1, Y, X)
        0 where the noise is not as `level` says.
    level : NoiseLevel or None
        That of the noise, as it is shown.
    variances : tuple of float
        What the variance of the noise could be, of that of `level`; first 1.
    view : View or None
        Between the picture as it is and as it is shown.
    """

    noisy: Tensor
    trust: Tensor
    level: NoiseLevel | None
    variances: tuple[float, ...]
    view: View | None = None
    source: _Picture | None = None

    def best_shown(self, network: nn.Module, generator: torch.Generator) -> tuple[_Picture, float]:
        """The picture in the best view, and to how much of themselves errors fall by that."""
        assert self.level is not None
        crop = self.examined(generator)
        view, ratio = views.best(network, crop[:, :-1], self.level, crop[:, -1:], generator)
        if view is None:
            return self, 1.0
        noisy, level = view.forward(self.noisy), view.shown(self.level)
        return _Picture(noisy, self.trust, level, self.variances, view, self), ratio

    def is_better(self, tuned: nn.Module, network: nn.Module, generator: torch.Generator) -> bool:
        """Whether the picture as it is, not as it is stabilized, is better by `tuned` too.

        Stabilized, all places count alike, but in PSNR the errors of the bright ones count most.
        """
        source = self.source or self
        if source.level is None or not source.level.shot:
            return True
        crop = source.examined(generator)
        errors = views.Errors(crop[:, :-1], source.level, crop[:, -1:], generator)
        before, after = (errors(self.predictor(one)) for one in (network, tuned))
        return sure_fall(before - after) > 0

    def examined(self, generator: torch.Generator) -> Tensor:
        """A crop of the picture and, as the last channel, of `trust`."""
        side = min(EXAMINED, *self.noisy.shape[-2:]) // CELL * CELL
        return random_crop(torch.cat([self.noisy, self.trust], dim=1), side, generator)

    def predictor(self, network: nn.Module) -> nn.Module:
        """`network` for pictures as they are, not as they are shown."""
        return network if self.view is None else Shown(network, self.view)


class _HeldOut:
    """Cells of the picture that no step learns from, and the errors of a network there.

    Attributes
    ----------
    pictures : Tensor (N, C + 1, Y, X)
        The noisy ones, and where they may be learned from.
    """

    def __init__(
        self, picture: _Picture, loss: str, generator: torch.Generator, *, share: float
    ) -> None:
        noisy, trust = picture.noisy, picture.trust
        size = (noisy.shape[-2], noisy.shape[-1])
        learned = patch_mask(len(noisy), size, share, CELL, generator).to(noisy.dtype)
        self.pictures = torch.cat([noisy, learned * trust], dim=1)
        self.level = None if loss == "blind-spot" else picture.level
        self.variances = picture.variances
        if share:
            side = min(EXAMINED, *noisy.shape[-2:]) // CELL * CELL
            crop = random_crop(torch.cat([noisy, (1 - learned) * trust], dim=1), side, generator)
            self.examined, self.held = crop[:, :-1], crop[:, -1:]
        self.seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))

    @torch.no_grad()
    def errors(self, predict: nn.Module) -> Tensor:
        """Mean error in each held-out cell, for each of the variances that the noise could have.

        (variances, cells); the same random numbers in each call.
        """
        generator = torch.Generator(self.examined.device).manual_seed(self.seed)
        if self.level is None:
            total, count = self._blind_spot(predict, generator)
            return self._in_cells(total, count)[None]
        residual, divergence = objectives.sure_parts(
            predict, self.examined, self.level, generator, PROBES
        )
        errors = [residual + v * (2 * divergence - 1) for v in self.variances]
        return torch.stack([self._in_cells(e * self.held, self.held) for e in errors])

    def _in_cells(self, total: Tensor, count: Tensor) -> Tensor:
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
        self._begin = 0  # of the present round

    def add(self, step: int, tuned: nn.Module) -> None:
        self.steps.append(step)
        self.states.append([gain.detach().clone() for gain in self.gains])
        if self.held_out is not None:
            self.errors.append(self.held_out.errors(tuned))

    def numbers(self) -> dict[str, float | None]:
        return {"held_out": float(self.errors[-1][0].mean())} if self.errors else {}

    def goes_on(self) -> bool:
        """Whether the steps since the last call took enough of the error away for a next round."""
        if self.held_out is None:
            return False
        before, after = self.errors[self._begin], self.errors[-1]
        self._begin = len(self.errors) - 1
        least = 1e-12 if self.held_out.level is None else SMALLEST_ERROR
        ratio = max(float(after[0].mean()), least) / max(float(before[0].mean()), least)
        return ratio < 1 - WORTH and sure_fall(before - after) > 0

    def best(self) -> tuple[int, float | None]:
        """Set the gains to the best; the step they are of, and what they win in dB."""
        kept, gain = len(self.steps) - 1, None
        if self.held_out is not None:
            kept = max(range(len(self.steps)), key=self._sure_gain)
            gain = self._decibels(kept)
        self._set(kept)
        return self.steps[kept], gain

    def untuned(self) -> tuple[int, float]:
        """Set the gains to 1; the step and what it wins."""
        self._set(0)
        return 0, 0.0

    @torch.no_grad()
    def _set(self, index: int) -> None:
        for parameter, value in zip(self.gains, self.states[index], strict=True):
            parameter.copy_(value)

    def _sure_gain(self, index: int) -> float:
        """By how much the error falls at least, one standard error below the mean of the cells.

        Whichever of its variances the noise has.
        """
        if index == 0:
            return 0.0
        return sure_fall(self.errors[0] - self.errors[index])

    def _decibels(self, index: int) -> float | None:
        if self.held_out is None or self.held_out.level is None:
            return None  # the error of a blind spot has that of the noise in it
        before, after = (float(self.errors[i][0].mean()) for i in (0, index))
        # They are in units of the noise's variance.
        return 10 * math.log10(max(before, SMALLEST_ERROR) / max(after, SMALLEST_ERROR))


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
        estimate = as_gray_as(network(noisy).float(), noisy)
    return objectives.resample(tuned, estimate, level, generator)
