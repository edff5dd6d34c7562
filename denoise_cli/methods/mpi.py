"""MPI: a network pre-trained on masked pictures fills in the noisy one, again and again."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import details, noise_kind, noise_level
from ..adam import Adam
from ..masking import pixel_mask
from ..noise_level import NoiseLevel
from ..orientation import ORIENTATIONS, turned, turned_back
from .base import Adaptation, Observer, Predictor, option, random_crop, require
from .estimates import has_impulses

PRESETS = {"fast": (200, 0.9), "full": (1000, 0.99)}  # steps and decay of the average
RATIO, RATIO_SHARED = 0.3, 0.85  # of the paper: for independent noise, for real noise
HELD_OUT, LEAST, MOST = 400, 0.01, 0.1  # pixels, and shares of all; more cost quality
WORSE = 1.0  # standard errors by which they are predicted worse than before
# Steps that win something on nearly all pictures of so many pixels: they must look clearly worse,
# or chance would stop one run in six too early.
SURE_STEPS, SURE_PIXELS, CLEARLY_WORSE = 100, 128 * 128, 3.0
LOOK_EVERY = 20
PATIENCE = 4  # looks without a better one
EXAMINED = 10  # networks that are asked for those
REMEMBERED = 32  # networks of past steps
LR = 1e-3  # for the network of the paper
# Of the parts of the picture that tell what its noise is: their sides, and how many are asked.
LOOKED_AT, SMALLEST_SIDE, PARTS = 256, 64, 3
WARM_UP = 20  # steps: Adam's first ones are of full length whatever the gradient


State = list[Tensor]


@dataclass(frozen=True)
class MPI:
    """Learn for some hundred steps to fill in hidden pixels of the noisy picture, and fill it in.

    Ma et al., "Masked Pre-training Enables Universal Zero-shot Denoiser", NeurIPS 2024, algorithm
    1. The paper predicts the whole picture in each step and averages with the weight `beta` on the
    past (eq. 9), starting from the noisy picture, of which up to 5 % stays in the result. Here the
    networks of the last steps are remembered, spread over the time that average looks back, and
    the picture is predicted at the end: each of them fills in what a mask of its own hides, and
    what is predicted for a pixel is averaged. The steps on a large picture can then be taken on
    crops, in a time that does not grow with it (crops below 512 pixels cost quality); its tiles
    share the networks and show no seams. The normalizations keep the statistics of pre-training: by
    those of the picture at hand, as in the paper, the first 60 steps are lost (of one training
    photo 25 instead of 36 dB after 20 steps, 38.6 instead of 40.3 dB in the end). Small pictures
    are learned by heart in the end, noise and all: a few pixels that no step learns from show when,
    and the networks of that time are kept. The first 100 steps (fewer on pictures of less than
    128 x 128) must look clearly worse there to be undone.

    Not in the paper: what is filled in does not know the noisy sample of its own pixel. Where the
    noise is white, so that its level can be told, the sample is weighed in (`details.weigh_in`): on
    photos that wins 0.15 dB at a sigma of 50, 0.35 at 25 and 1.0 at 10.

    Noise that is correlated between pixels cannot be told from the picture by its neighbors: for
    it there are the weights `mpi-correlated`, which hide 80 to 95 % in all channels at once, and
    `downsample`, which takes the picture apart into four phases (in true colors; the authors' code
    mixes them).
    """

    quicker: ClassVar[str] = "--option passes=20"

    preset: str = option("fast", "fast: 200 steps, beta 0.9; full: 1000 steps, beta 0.99")
    steps: int = option(0, "gradient steps at most; 0: the preset's")
    beta: float = option(0.0, "weight of the past in the average; 0: the preset's")
    mask_ratio: float = option(0.0, "fraction hidden; 0: what the weights were trained with")
    lr: float = option(0.0, "Adam learning rate; 0: what suits the network")
    crop: int = option(512, "side of the random crop a step learns from, in pixels")
    passes: int = option(64, "masks that the result is averaged over")
    downsample: int = option(1, "2: denoise every second pixel apart, for correlated noise")
    validate: bool = option(True, "stop by the pixels held out; without it all steps are taken")
    own: bool = option(True, "weigh in each pixel's own sample too, where the noise is white")

    def __post_init__(self) -> None:
        known = " or ".join(PRESETS)
        require(self.preset in PRESETS, f"preset must be {known}, not {self.preset!r}")
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
        require(0 <= self.beta < 1, f"beta must be 0 or more and below 1, not {self.beta}")
        require(0 <= self.mask_ratio < 1, f"mask_ratio must be below 1, not {self.mask_ratio}")
        require(self.lr >= 0, f"lr must be 0 or more, not {self.lr}")
        require(self.crop >= 64, f"crop must be 64 or more, not {self.crop}")
        require(self.passes >= 1, f"passes must be 1 or more, not {self.passes}")
        require(self.downsample in (1, 2), f"downsample must be 1 or 2, not {self.downsample}")

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Adapt a copy of `network` to `noisy` (N, C, Y, X), normalized."""
        steps, beta = PRESETS[self.preset]
        steps, beta = self.steps or steps, self.beta or beta
        filler = _Filler.of(network, noisy, self.mask_ratio)
        phases = _unshuffle(noisy, self.downsample)
        phases = _at_least(phases, network.minimum)  # type: ignore[arg-type]
        run = _Fill(self, filler, phases, generator)
        # A pixel is averaged when it is hidden; a mean over this many steps is as old on average.
        looked_back = 2 / (1 - beta) / filler.ratio
        apart = max(1, round(looked_back / REMEMBERED))
        sure = SURE_STEPS * min(1.0, phases[:, :1].numel() / SURE_PIXELS)
        kept, kept_states, looks = 0, run.states(), 0
        best = run.held_out_errors(kept_states)
        observer.step(0, self._predictor(filler, kept_states), None)
        for step in range(1, steps + 1):
            run.step(remember=step % apart == 0)
            observer.progress(step, steps)
            if step % LOOK_EVERY and step != steps:
                continue
            states = run.states()
            errors = run.held_out_errors(states)
            error = float(errors.mean())
            observer.step(step, self._predictor(filler, states), None, held_out=error)
            if not _is_worse(errors, best, CLEARLY_WORSE if step <= sure else WORSE):
                kept, kept_states, looks = step, states, 0
                best = errors if error < float(best.mean()) else best
            elif (looks := looks + 1) >= PATIENCE:
                observer.progress(steps, steps)
                break
        reason = f"all {step} steps, not validated"
        if self.validate:
            reason = f"from step {kept} of {step} on the pixels held out are not predicted better"
        predict = self._predictor(filler, kept_states)
        level = _white_noise(noisy, predict, generator) if self.own else None
        if level is not None:
            reason += f"; the pixels' own samples weighed in at noise of sigma {level.sigma:.3g}"
            predict = partial(_weighed_in, predict, level)
        return Adaptation(predict, step, kept, None, reason)

    def _predictor(self, filler: _Filler, states: list[State]) -> Predictor:
        def predict(pictures: Tensor) -> Tensor:
            phases = _unshuffle(pictures, self.downsample)
            rows, columns = phases.shape[-2:]
            large = _at_least(phases, filler.network.minimum)  # type: ignore[arg-type]
            filled = filler.average(states, large, self.passes)[..., :rows, :columns]
            return _shuffle(filled, self.downsample, pictures.shape)

        return predict


class _Fill:
    """The steps: a network that learns, and what it was in the last of them."""

    def __init__(
        self, method: MPI, filler: _Filler, pictures: Tensor, generator: torch.Generator
    ) -> None:
        self.filler, self.generator = filler, generator
        self.network = copy.deepcopy(filler.network)  # in evaluation mode
        self.past: deque[State] = deque(maxlen=REMEMBERED)
        self.lr = method.lr or getattr(filler.network, "fill_lr", LR)
        self.taken = 0
        self.optimizer = Adam(self.network.parameters(), self.lr)
        self.size = min(method.crop, *pictures.shape[-2:])
        u = torch.rand(pictures[:, :1].shape, generator=generator, device=pictures.device)
        share = min(max(HELD_OUT / u.numel(), LEAST), MOST) if method.validate else 0.0
        # Held-out pixels are so in all channels, hidden in every step and never learned from.
        self.pictures = torch.cat([pictures, (u < share).to(pictures.dtype)], dim=1)
        self.examined = random_crop(self.pictures, self.size, generator)
        self.examined_masks = [self._mask(self.examined) for _ in range(EXAMINED)]

    def step(self, *, remember: bool) -> None:
        """Learn from one crop."""
        crop = random_crop(self.pictures, self.size, self.generator)
        orientation = torch.randint(
            ORIENTATIONS, (), generator=self.generator, device=self.generator.device
        )
        crop = turned(crop, int(orientation))
        mask = self._mask(crop)
        picture, held = crop[:, :-1], crop[:, -1:]
        learned = (1 - mask) * (1 - held)
        error = (self.filler.fill(self.network, picture, mask) - picture) * learned
        loss = error.square().sum() / learned.sum().clamp(min=1)
        self.taken += 1
        self.optimizer.lr = self.lr * min(1.0, self.taken / WARM_UP)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if remember:
            self.past.append(_state(self.network))

    def states(self) -> list[State]:
        """The remembered ones, the last first; before the first step, the present one."""
        return list(self.past)[::-1] or [_state(self.network)]

    @torch.no_grad()
    def held_out_errors(self, states: list[State]) -> Tensor:
        """Squared errors at the pixels held out of one crop, of the mean of some `states`."""
        picture, held = self.examined[:, :-1], self.examined[:, -1:]
        if not held.any():
            return held.new_full((1,), math.nan)
        filled = [
            self.filler.fill(self.filler.at(states[index * len(states) // EXAMINED]), picture, mask)
            for index, mask in enumerate(self.examined_masks)
        ]
        squared = (torch.stack(filled).mean(dim=0) - picture).square().mean(dim=1, keepdim=True)
        return squared[held > 0]

    def _mask(self, crop: Tensor) -> Tensor:
        return self.filler.mask(crop[:, :-1], self.generator) * (1 - crop[:, -1:])


@dataclass(frozen=True)
class _Filler:
    """How a network is asked: its kind of mask, and the fraction hidden."""

    network: nn.Module
    ratio: float
    is_shared: bool
    is_repeated: bool

    @classmethod
    def of(cls, network: nn.Module, noisy: Tensor, ratio: float) -> _Filler:
        config: dict[str, int] = network.config  # type: ignore[assignment]
        is_shared = config["inputs"] == config["channels"] + 1 < 2 * config["channels"]
        # A gray picture in three channels would show in one what is hidden in another.
        is_repeated = noisy.shape[1] > 1 and bool((noisy == noisy[:, :1]).all())
        ratio = ratio or (RATIO_SHARED if is_shared else RATIO)
        return cls(copy.deepcopy(network).eval(), ratio, is_shared, is_repeated)

    def mask(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """A random mask for `pictures` (N, C, Y, X), 1 where visible."""
        shared = self.is_shared or self.is_repeated
        return self._shaped(pixel_mask(pictures, self.ratio, generator, shared=shared), pictures)

    def fill(self, network: nn.Module, pictures: Tensor, mask: Tensor) -> Tensor:
        """What the network predicts from the visible pixels."""
        stacked = torch.cat([pictures * mask, mask], dim=1)
        filled: Tensor = network(stacked.contiguous(memory_format=torch.channels_last))
        return filled.float()

    def at(self, state: State) -> nn.Module:
        """The network with the weights of `state`."""
        with torch.no_grad():
            torch._foreach_copy_(list(_numbers(self.network)), state)
        return self.network

    @torch.no_grad()
    def average(self, states: list[State], pictures: Tensor, passes: int) -> Tensor:
        """The mean of what is predicted for each pixel when it is hidden, over `passes` masks."""
        generator = torch.Generator(pictures.device).manual_seed(0)
        total, count = torch.zeros_like(pictures), torch.zeros_like(pictures)
        for index in range(passes):
            seen = turned(pictures, index % ORIENTATIONS)
            mask = self.mask(seen, generator)
            filled = self.fill(self.at(states[index % len(states)]), seen, mask)
            # Where no mask hides a pixel, what was predicted for it anyway has to do.
            weight = 1 - mask + 1e-3
            total += turned_back(filled * weight, index % ORIENTATIONS)
            count += turned_back(weight, index % ORIENTATIONS)
        return total / count

    def _shaped(self, mask: Tensor, pictures: Tensor) -> Tensor:
        if self.is_repeated and not self.is_shared:
            return mask.expand_as(pictures)
        return mask


def _white_noise(
    noisy: Tensor, predict: Predictor, generator: torch.Generator
) -> NoiseLevel | None:
    """The level of the noise of `noisy` (N, C, Y, X), if it is white."""
    size = min(LOOKED_AT, *noisy.shape[-2:])
    if size < SMALLEST_SIDE or noise_kind.is_correlated(noisy) or not noise_kind.is_uniform(noisy):
        return None
    estimated = noise_level.estimate(noisy).read
    # Texture that no fill gets right, such as fur, is taken for noise that is not white.
    for _ in range(PARTS if size < max(noisy.shape[-2:]) else 1):
        part = random_crop(noisy, size, generator)
        if has_impulses(part):
            return None
        filled = predict(part)
        level = NoiseLevel(read=details.at_most_missed(part, filled, estimated))
        if noise_kind.is_white(part, filled, level):
            return level
    return None


def _weighed_in(predict: Predictor, level: NoiseLevel, noisy: Tensor) -> Tensor:
    return details.weigh_in(noisy.float(), predict(noisy), level.read)


def _is_worse(errors: Tensor, before: Tensor, limit: float) -> bool:
    """Whether the same pixels are predicted worse than before, by `limit` standard errors."""
    more = errors - before
    if len(more) < 2:
        return False
    chance = limit * float(more.std()) / math.sqrt(len(more))
    return not float(more.mean()) <= chance  # a network that diverged predicts no numbers


def _numbers(network: nn.Module) -> Iterator[Tensor]:
    """Weights and the statistics of normalization."""
    yield from network.parameters()
    yield from (buffer for buffer in network.buffers() if buffer.is_floating_point())


def _state(network: nn.Module) -> State:
    return [number.detach().clone() for number in _numbers(network)]


def _unshuffle(pictures: Tensor, factor: int) -> Tensor:
    """Every `factor`-th pixel as a picture of its own: (N, C, Y, X) -> (N f f, C, Y/f, X/f)."""
    if factor == 1:
        return pictures
    rows, columns = pictures.shape[-2:]
    pictures = F.pad(pictures, (0, columns % factor, 0, rows % factor), mode="replicate")
    count, channels = pictures.shape[:2]
    phases = F.pixel_unshuffle(pictures, factor)
    phases = phases.reshape(count, channels, factor * factor, *phases.shape[-2:])
    return phases.transpose(1, 2).flatten(0, 1)


def _shuffle(phases: Tensor, factor: int, shape: torch.Size) -> Tensor:
    """The inverse of `_unshuffle` for pictures of `shape`."""
    if factor == 1:
        return phases
    count, channels = shape[:2]
    grouped = phases.reshape(count, factor * factor, channels, *phases.shape[-2:]).transpose(1, 2)
    pictures = F.pixel_shuffle(grouped.flatten(1, 2), factor)
    return pictures[..., : shape[-2], : shape[-1]]


def _at_least(pictures: Tensor, side: int) -> Tensor:
    rows, columns = (max(0, side - n) for n in pictures.shape[-2:])
    return F.pad(pictures, (0, columns, 0, rows), mode="replicate") if rows + columns else pictures
