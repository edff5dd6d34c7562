"""Automatic: which network, adapted or not, is decided by what each leaves of the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..validation import noise_left
from .base import Adaptation, Candidate, Member, Observer, Predictor, option, random_crop, require
from .ttt_mim import SMALLEST_SIDE, TTTMIM

BUDGETS = ("fast", "balanced", "best")
LARGE, SECOND = "ttt-mim-large", "ttt-mim-gaussian"
LOOKED_AT = 256
# Chosen on held-out training photos under fourteen kinds of noise: from so much more (or less)
# noise left by the first network than by the second on, the mean of both was better than the
# first. Adapted, the second smooths more: that it leaves less must be plain to see.
LEFT_BY_ADAPTED, LEFT_BY_PLAIN = 2.0, 0.5


@dataclass(frozen=True)
class Auto:
    """Average the default networks with one adapted to the picture, where that leaves less noise.

    The default network (`ttt-mim`) and a larger one (`ttt-mim-large`) know most kinds of noise, and
    where they do, no adaptation is better. What they do not know they leave in the picture. A
    further one, `ttt-mim-gaussian`, knows white noise only: it is adapted by TTT-MIM, with the
    estimate of the error that can refuse it (see `TTTMIM`). The noise that is left is then looked
    for in the flattest places of the results. If the first two leave at least twice the variance
    that the adapted one leaves, or that one was good enough as it was and leaves at most twice
    theirs, the result is the mean of all three; otherwise it is the mean of the first two. The mean
    of estimates of about the same error is better than each, and at worst it loses a part of what
    the worst would.
    """

    networks: ClassVar[tuple[str, ...]] = (LARGE, SECOND)

    budget: str = option(
        "balanced",
        "fast: no larger network and no adaptation; balanced; best: also turned and mirrored, "
        "eight results averaged",
    )

    steps: int = option(8, "gradient steps at most of the network that is adapted")

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
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
        first: dict[str, Predictor] = {"ttt-mim": network}
        second = networks[SECOND]
        if self.budget != "fast":
            first[LARGE] = networks[LARGE]
        alone = partial(_mean, tuple(first.values()))
        if min(noisy.shape[-2:]) < SMALLEST_SIDE:
            reason = f"{' and '.join(first)}: the picture is too small to tell more"
            return Adaptation(self._finish(alone), reason=reason)
        made = Adaptation(second)
        if self.budget != "fast":
            made = _adapted(second, TTTMIM(steps=self.steps), noisy, generator, observer)
        limit, state = (LEFT_BY_ADAPTED, "adapted") if made.kept_step else (LEFT_BY_PLAIN, "as is")
        every = {**first, f"{SECOND}, {state}": made.predict}
        noise, by_first, *left = _left(tuple(every.values()), len(first), noisy, generator)
        together = by_first > limit * left[-1]
        used = every if together else first
        candidates = tuple(
            Candidate(name, (name in used) / len(used), math.sqrt(variance / max(noise, 1e-12)))
            for name, variance in zip(every, left, strict=True)
        )
        return Adaptation(
            self._finish(partial(_mean, tuple(used.values()))),
            steps=made.steps,
            kept_step=made.kept_step if together else 0,
            reason=_reason(candidates),
            candidates=candidates,
        )

    def _finish(self, predict: Predictor) -> Predictor:
        return partial(_turned, predict) if self.budget == "best" else predict


def _adapted(
    second: Member, method: TTTMIM, noisy: Tensor, generator: torch.Generator, observer: Observer
) -> Adaptation:
    adaptation = method.adapt(
        second.network,
        second.normalize(noisy),
        generator=generator,
        observer=_Restored(second, observer),
    )
    return replace(adaptation, predict=replace(second, network=adaptation.predict))


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


@torch.no_grad()
def _left(
    predictors: tuple[Predictor, ...], first: int, noisy: Tensor, generator: torch.Generator
) -> list[float]:
    """The variance that the flattest places of a part hold.

    Of the noisy picture, of the mean of the `first` results, and of each result.
    """
    size = min(LOOKED_AT, *noisy.shape[-2:]) // SMALLEST_SIDE * SMALLEST_SIDE
    part = random_crop(noisy, size, generator)
    results = [predict(part).float() for predict in predictors]
    mean = sum(results[1:first], results[0]) / first
    return [noise_left(part, picture) for picture in (part, mean, *results)]


def _reason(candidates: tuple[Candidate, ...]) -> str:
    used = [candidate.name for candidate in candidates if candidate.weight]
    rest = [candidate.name for candidate in candidates if not candidate.weight]
    chosen = f"mean of {' and '.join(used)}" if len(used) > 1 else used[0]
    left = ", ".join(f"{candidate.noise_left:.0%}" for candidate in candidates)
    return f"{chosen}{f', without {rest[0]}' if rest else ''}: {left} of the noise left"


def _mean(predictors: tuple[Predictor, ...], noisy: Tensor) -> Tensor:
    total = predictors[0](noisy).float()
    for predict in predictors[1:]:
        total = total + predict(noisy).float()
    return total / len(predictors)


def _turned(predict: Predictor, noisy: Tensor) -> Tensor:
    """The mean over the eight orientations of the picture."""
    total = torch.zeros_like(noisy, dtype=torch.float32)
    for turns in range(4):
        for mirrored in (False, True):
            seen = torch.rot90(noisy, turns, (-2, -1))
            seen = seen.flip(-1) if mirrored else seen
            found = predict(seen.contiguous(memory_format=torch.channels_last)).float()
            found = found.flip(-1) if mirrored else found
            total += torch.rot90(found, -turns, (-2, -1))
    return total / 8
