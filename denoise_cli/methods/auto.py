"""Automatic: which network, adapted or not, is decided by what each leaves of the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import collaborative, details, noise_level
from ..noise_level import NoiseLevel
from ..orientation import ORIENTATIONS, turned, turned_back
from ..validation import noise_left
from .base import Adaptation, Candidate, Member, Observer, Predictor, option, random_crop, require
from .ttt_mim import SMALLEST_SIDE, TTTMIM, has_impulses

BUDGETS = ("fast", "balanced", "best")
DEFAULT, WHITE, ADAPTED = "ttt-mim", "white-noise", "ttt-mim-gaussian"
LOOKED_AT = 256
# All limits were chosen on held-out training photos under known noise. The first network knows the
# noise of which it leaves at most a tenth of the variance in the flattest places.
KNOWN = 0.1
# Adapted, a network smooths more: that it leaves less must be plain to see. The one for white noise
# may leave more of it in flat places: up to three times as much where it is better by 0.1 dB.
LEFT_BY_ADAPTED, MORE_LEFT = 0.5, 4.0
# The orientations of a balanced mean: as it is, turned, mirrored, both. Four of one network gain
# 0.1 to 0.2 dB on all kinds of noise, eight hardly more.
SPREAD = (0, 7, 2, 5)


@dataclass(frozen=True)
class Auto:
    """Take the network that knows the noise; adapt one where none does.

    The network `ttt-mim` knows most kinds of noise, and where it does, no adaptation is better:
    where it leaves at most a tenth of the noise's variance in the flattest places. Noise that it
    does not know another one, `ttt-mim-gaussian`, is adapted to by TTT-MIM, with the estimate of
    the error that can refuse it (see `TTTMIM`); the two are averaged where that then leaves at most
    half of what the first does. Noise that is white and the same everywhere is left to a third,
    `white-noise`, which knows no other and denoises this 0.1 dB better. Impulses only the first
    knows. The picture is turned or mirrored for each pass of a network, four in all, and the
    results are turned back before the mean. Where the noise is independent between pixels, not
    striped, and no JPEG took its high frequencies, patches that are alike are denoised together,
    with the mean as the pilot (`denoise_cli.collaborative`). Where more than white noise was
    removed, the details in it are given back (`denoise_cli.details`).
    """

    networks: ClassVar[tuple[str, ...]] = (WHITE, ADAPTED)

    budget: str = option(
        "balanced",
        "fast: one network, one pass, no adaptation; balanced: four passes, the picture "
        "turned and mirrored; best: eight of each network",
    )
    steps: int = option(8, "gradient steps at most of the network that is adapted")

    def __post_init__(self) -> None:
        TTTMIM(steps=self.steps)  # refuses what it cannot take
        require(self.budget in BUDGETS, f"budget must be {', '.join(BUDGETS)}, not {self.budget!r}")

    def adapt(
        self,
        network: nn.Module,
        noisy: Tensor,
        *,
        generator: torch.Generator,
        observer: Observer,
        networks: Mapping[str, Member],
    ) -> Adaptation:
        """Choose for `noisy` (N, C, Y, X), normalized as for `network`."""
        observer.step(0, network, None)
        if self.budget == "fast":
            return Adaptation(network, reason=f"{DEFAULT}: more would take longer")
        if min(noisy.shape[-2:]) < SMALLEST_SIDE:
            reason = f"{DEFAULT}: the picture is too small to tell more"
            return Adaptation(self._mean([network]), reason=reason)
        look = _Look(noisy, generator)
        if has_impulses(look.part):
            reason = f"{DEFAULT}: single samples stand out, and it alone knows such noise"
            return Adaptation(self._mean([network]), reason=reason)
        first = look(DEFAULT, network)
        used: dict[str, Predictor] = {DEFAULT: network}
        made = Adaptation(network)
        is_known = first <= KNOWN * look.noise
        if not is_known:
            made = _adapted(networks[ADAPTED], TTTMIM(self.steps), noisy, generator, observer)
            name = f"{ADAPTED}, {'adapted' if made.kept_step else 'as is'}"
            if look(name, made.predict) < LEFT_BY_ADAPTED * first and made.kept_step:
                used[name] = made.predict
        level = None if noise_level.is_correlated(noisy) else look.level(noisy, list(used))
        stacks = level is not None and look.is_white(list(used), level)
        is_plain = level is not None and stacks and not level.shot
        if is_plain and is_known and look(WHITE, networks[WHITE]) <= MORE_LEFT * first:
            used = {WHITE: networks[WHITE]}
        candidates = tuple(
            Candidate(name, (name in used) / len(used), share)
            for name, share in look.shares_left().items()
        )
        return Adaptation(
            self._mean(list(used.values()), level, stacks=stacks),
            steps=made.steps,
            kept_step=made.kept_step if len(used) > 1 else 0,
            reason=_reason(candidates) + (", then alike patches together" if stacks else ""),
            candidates=candidates,
        )

    def _mean(
        self, networks: list[Predictor], level: NoiseLevel | None = None, *, stacks: bool = False
    ) -> Predictor:
        """Of each network as many passes, each of another orientation.

        With the `level` of noise that is independent between pixels, details are given back, and
        with `stacks` patches that are alike are denoised together.
        """
        if self.budget == "best":
            passes = [(network, each) for network in networks for each in range(ORIENTATIONS)]
        else:
            passes = list(zip(networks * (len(SPREAD) // len(networks)), SPREAD, strict=False))
        predict = partial(_mean, passes)
        return predict if level is None else partial(_refined, predict, level, stacks)


def _adapted(
    member: Member, method: TTTMIM, noisy: Tensor, generator: torch.Generator, observer: Observer
) -> Adaptation:
    adaptation = method.adapt(
        member.network,
        member.normalize(noisy),
        generator=generator,
        observer=_Restored(member, observer),
    )
    return replace(adaptation, predict=replace(member, network=adaptation.predict))


class _Restored(Observer):
    """Shows the adaptation of a further network to an observer of the first one."""

    def __init__(self, member: Member, observer: Observer) -> None:
        self._member, self._observer = member, observer

    def progress(self, done: int, total: int) -> None:
        self._observer.progress(done, total)

    def step(
        self, step: int, predict: Predictor, reconstruct: Predictor | None, **numbers: float | None
    ) -> None:
        if step:  # step 0 is the first network's
            seen = None if reconstruct is None else replace(self._member, network=reconstruct)
            self._observer.step(step, replace(self._member, network=predict), seen, **numbers)


class _Look:
    """A part of the picture, and what networks make of it.

    Attributes
    ----------
    part : Tensor (1, C, Y, X)
    left : dict of float
        The variance that the flattest places of each result hold.
    noise : float
        The variance that they hold in the picture itself.
    """

    def __init__(self, noisy: Tensor, generator: torch.Generator) -> None:
        size = min(LOOKED_AT, *noisy.shape[-2:]) // SMALLEST_SIDE * SMALLEST_SIDE
        self.part = random_crop(noisy, size, generator)
        self._results: dict[str, Tensor] = {}
        self.left: dict[str, float] = {}
        self.noise = max(noise_left(self.part, self.part), 1e-12)

    @torch.no_grad()
    def __call__(self, name: str, predict: Predictor) -> float:
        """The variance that the result of a network holds, which is kept under its `name`."""
        self._results[name] = predict(self.part).float()
        self.left[name] = noise_left(self.part, self._results[name])
        return self.left[name]

    def mean(self, names: list[str]) -> Tensor:
        """Of these results."""
        return torch.stack([self._results[name] for name in names]).mean(dim=0)

    def level(self, noisy: Tensor, names: list[str]) -> NoiseLevel | None:
        """That of the noise of the whole picture `noisy`, by what these results took away."""
        return noise_level.removed_level(noisy, self.part, self.mean(names))

    def is_white(self, names: list[str], level: NoiseLevel) -> bool:
        """Whether noise of this level is as strong in all directions, colors and frequencies."""
        return noise_level.is_white(self.part, self.mean(names), level)

    def shares_left(self) -> dict[str, float]:
        """The standard deviation that each result leaves over that of the picture."""
        return {name: math.sqrt(left / self.noise) for name, left in self.left.items()}


def _reason(candidates: tuple[Candidate, ...]) -> str:
    used = [candidate.name for candidate in candidates if candidate.weight]
    rest = [candidate.name for candidate in candidates if not candidate.weight]
    chosen = f"mean of {' and '.join(used)}" if len(used) > 1 else used[0]
    left = ", ".join(f"{candidate.noise_left:.0%}" for candidate in candidates)
    return f"{chosen}{f', without {rest[0]}' if rest else ''}: {left} of the noise left"


def _mean(passes: list[tuple[Predictor, int]], noisy: Tensor) -> Tensor:
    """The mean of what networks make of the picture in the orientations given with them."""
    total = torch.zeros_like(noisy, dtype=torch.float32)
    for predict, orientation in passes:
        seen = turned(noisy, orientation).contiguous(memory_format=torch.channels_last)
        total += turned_back(predict(seen).float(), orientation)
    return total / len(passes)


def _refined(predict: Predictor, level: NoiseLevel, stacks: bool, noisy: Tensor) -> Tensor:
    noisy, denoised = noisy.float(), predict(noisy)
    if stacks:
        denoised = collaborative.refine(noisy, denoised, level)
    # Noise that changes with the light is not known well enough to tell details from it.
    return denoised if level.shot else details.give_back(noisy, denoised, level.read)
