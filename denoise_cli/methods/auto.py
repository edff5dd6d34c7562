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
SECOND = "ttt-mim-gaussian"
LOOKED_AT = 256
# Chosen on held-out training photos under fourteen kinds of noise: from so much more (or less)
# noise left by the first network than by the second on, the mean of both was better than the
# first. Adapted, the second smooths more: that it leaves less must be plain to see.
LEFT_BY_ADAPTED, LEFT_BY_PLAIN = 2.0, 0.5


@dataclass(frozen=True)
class Auto:
    """Average the default network with one adapted to the picture, where that leaves less noise.

    The default network (`ttt-mim`) knows most kinds of noise, and where it does, no adaptation is
    better. What it does not know it leaves in the picture. The second, `ttt-mim-gaussian`, knows
    white noise only: it is adapted by TTT-MIM, with the estimate of the error that can refuse it
    (see `TTTMIM`). The noise that each leaves is then looked for in the flattest places of their
    results. If the first leaves at least twice the variance that the adapted second leaves, or the
    second was good enough as it was and leaves at most twice that of the first, the result is the
    mean of both; otherwise it is the first alone. The mean of two estimates of about the same
    error is better than either, and at worst loses half of what the wrong one would.
    """

    networks: ClassVar[tuple[str, ...]] = (SECOND,)

    budget: str = option(
        "balanced",
        "fast: no adaptation; balanced; best: also turned and mirrored, eight results averaged",
    )

    def __post_init__(self) -> None:
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
        second = networks[SECOND]
        if min(noisy.shape[-2:]) < SMALLEST_SIDE:
            reason = "ttt-mim alone: the picture is too small to tell more"
            return Adaptation(self._finish(network), reason=reason)
        made = Adaptation(second)
        if self.budget != "fast":
            made = _adapted(second, noisy, generator, observer)
        limit, state = (LEFT_BY_ADAPTED, "adapted") if made.kept_step else (LEFT_BY_PLAIN, "as is")
        noise, *left = _left((_unchanged, network, made.predict), noisy, generator)
        together = left[0] > limit * left[1]
        shares = (0.5, 0.5) if together else (1.0, 0.0)
        candidates = tuple(
            Candidate(name, share, math.sqrt(variance / max(noise, 1e-12)))
            for name, share, variance in zip(
                ("ttt-mim", f"{SECOND}, {state}"), shares, left, strict=True
            )
        )
        return Adaptation(
            self._finish(partial(_mean, network, made.predict) if together else network),
            steps=made.steps,
            kept_step=made.kept_step if together else 0,
            reason=_reason(candidates),
            candidates=candidates,
        )

    def _finish(self, predict: Predictor) -> Predictor:
        return partial(_turned, predict) if self.budget == "best" else predict


def _adapted(
    second: Member, noisy: Tensor, generator: torch.Generator, observer: Observer
) -> Adaptation:
    adaptation = TTTMIM().adapt(
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
    predictors: tuple[Predictor, ...], noisy: Tensor, generator: torch.Generator
) -> list[float]:
    """The variance of the noise that each leaves in the flattest places of a part."""
    size = min(LOOKED_AT, *noisy.shape[-2:]) // SMALLEST_SIDE * SMALLEST_SIDE
    part = random_crop(noisy, size, generator)
    return [noise_left(part, predict(part).float()) for predict in predictors]


def _unchanged(noisy: Tensor) -> Tensor:
    return noisy


def _reason(candidates: tuple[Candidate, ...]) -> str:
    used = " and ".join(candidate.name for candidate in candidates if candidate.weight)
    left = " and ".join(f"{candidate.noise_left:.0%}" for candidate in candidates)
    alone = len([candidate for candidate in candidates if candidate.weight]) == 1
    compared = f" (beside {candidates[-1].name})" if alone else ", averaged"
    return f"{used}{compared}: {left} of the noise left"


def _mean(first: Predictor, second: Predictor, noisy: Tensor) -> Tensor:
    return (first(noisy).float() + second(noisy).float()) / 2


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
