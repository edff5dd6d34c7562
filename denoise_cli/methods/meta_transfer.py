"""Meta-transfer: a few gradient steps of the heads of a network that learned to be adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..objectives import Parameters, auxiliary_step, weighted_l1
from ..validation import RiskEstimate
from .base import SMALLEST_SIDE, Adaptation, Observer, option, random_crop, require, too_small

PARTS = ("heads", "all")
MINIMUM_GAIN_DB = 0.0


@dataclass(frozen=True)
class MetaTransfer:
    """Adapt both heads of the multi-task network, so that it rebuilds the noisy picture better.

    Gunawan et al., "Test-time Adaptation for Real Image Denoising via Meta-transfer Learning",
    2022, algorithm 3: plain gradient steps on the auxiliary loss, weighted by the mask network; the
    result is that of the weights after the last step. The body does not change: its features are
    computed once, serve all steps and, if the picture is not larger than `crop`, the prediction as
    well. With `part` ``all`` it does change (the paper's table 3).

    Unlike the paper's, the steps have to be worth it: the weights stay as they were unless the
    error, estimated without a clean picture (see `denoise_cli.validation`), falls. The authors'
    code uses Adam, leaves one layer of the primary head as it was, makes the mask binary and gives
    the result from before the last step.
    """

    steps: int = option(5, "gradient steps")
    lr: float = option(0.02, "length of a step")
    part: str = option("heads", "what adapts: heads or all")
    crop: int = option(256, "side of the random crop of larger pictures that is learned from")
    validate: bool = option(True, "keep the steps only if the estimated error falls")

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
        require(self.lr > 0, f"lr must be above 0, not {self.lr}")
        require(self.part in PARTS, f"part must be {' or '.join(PARTS)}, not {self.part!r}")
        require(
            self.crop >= SMALLEST_SIDE, f"crop must be {SMALLEST_SIDE} or more, not {self.crop}"
        )

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Adapt a copy of the heads to `noisy` (N, C, Y, X), normalized."""
        trained: Any = network
        smallest = SMALLEST_SIDE if self.validate else trained.minimum
        if min(noisy.shape[-2:]) < smallest:
            return too_small(network, smallest, observer)
        crop = random_crop(noisy, self.crop, generator)  # all of a small picture
        with torch.no_grad():
            mask = trained.mask_network(crop)
        part = _Part(trained.restoration, crop, whole=self.part == "all")
        before = adapted = _Adapted(part, part.weights())
        for step in range(self.steps):
            weights, loss = auxiliary_step(
                part.network, adapted.weights, part.inputs(crop), mask, self.lr
            )
            observer.step(step, adapted, adapted.rebuild, loss_auxiliary=float(loss))
            observer.progress(step + 1, self.steps)
            adapted = _Adapted(part, weights)
        gain, numbers = None, {"loss_auxiliary": adapted.loss(mask)}
        if self.validate and self.steps:
            gain = numbers["estimated_gain_db"] = _gain(crop, before, adapted, generator)
        observer.step(self.steps, adapted, adapted.rebuild, **numbers)
        if gain is not None and gain <= MINIMUM_GAIN_DB:
            reason = f"{self.steps} steps are not estimated to improve on the unadapted network"
            return Adaptation(before, self.steps, 0, 0.0, reason)
        reason = f"all {self.steps} steps"
        return Adaptation(adapted, self.steps, self.steps, gain, reason)


def _gain(crop: Tensor, before: _Adapted, adapted: _Adapted, generator: torch.Generator) -> float:
    """What the steps gain, estimated on the noisy picture."""
    with torch.no_grad():
        risk = RiskEstimate(crop, before(crop).float(), generator)
    return risk.gain_db(risk(before), risk(adapted))


class _Part:
    """What adapts, heads or all; what the heads are given for one picture is computed once."""

    def __init__(self, restoration: Any, picture: Tensor, *, whole: bool) -> None:
        self.body, self.picture = restoration.body, picture
        self.network: nn.Module = restoration if whole else restoration.heads
        self.whole = whole
        if not whole:
            with torch.no_grad():
                self.features = self.body(picture)

    def weights(self) -> Parameters:
        """Those that it was trained with."""
        return {name: value.detach() for name, value in self.network.named_parameters()}

    def inputs(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """What `network` is called with to denoise `pictures`."""
        if self.whole:
            return (pictures,)
        known = pictures.shape == self.picture.shape and torch.equal(pictures, self.picture)
        return (self.features if known else self.body(pictures), pictures)


class _Adapted:
    """The network with other weights of one part."""

    def __init__(self, part: _Part, weights: Parameters) -> None:
        self.part, self.weights = part, weights

    def __call__(self, pictures: Tensor) -> Tensor:
        return self._run(pictures)[0]

    def rebuild(self, pictures: Tensor) -> Tensor:
        """The noisy picture as the auxiliary head rebuilds it."""
        return self._run(pictures)[1]

    @torch.no_grad()
    def loss(self, mask: Tensor) -> float:
        """The auxiliary loss on the picture that is adapted to."""
        picture = self.part.picture
        return float(weighted_l1(self._run(picture)[1], picture, mask))

    def _run(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.part.inputs(pictures)
        run: tuple[Tensor, Tensor] = functional_call(self.part.network, self.weights, inputs)
        return run
