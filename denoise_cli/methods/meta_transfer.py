"""Meta-transfer: a few gradient steps of the heads of a network that learned to be adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..objectives import Parameters, adapt_heads, weighted_l1
from .base import Adaptation, Observer, option, random_crop, require


@dataclass(frozen=True)
class MetaTransfer:
    """Adapt both heads of the multi-task network, so that it rebuilds the noisy picture better.

    Gunawan et al., "Test-time Adaptation for Real Image Denoising via Meta-transfer Learning",
    2022, algorithm 3: plain gradient steps on the auxiliary loss, weighted by the mask network; the
    result is that of the weights after the last step. The body does not change: its features are
    computed once, serve all steps and, if the picture is not larger than `crop`, the prediction as
    well. The authors' code uses Adam, leaves one layer of the primary head as it was, makes the
    mask binary and gives the result from before the last step.
    """

    steps: int = option(5, "gradient steps")
    lr: float = option(0.02, "length of a step")
    crop: int = option(256, "side of the random crop of larger pictures that is learned from")

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
        require(self.lr > 0, f"lr must be above 0, not {self.lr}")
        require(self.crop >= 16, f"crop must be 16 or more, not {self.crop}")

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Adapt copies of the heads to `noisy` (N, C, Y, X), normalized."""
        trained: Any = network
        crop = random_crop(noisy, self.crop, generator)  # all of a small picture
        if min(crop.shape[-2:]) < trained.minimum:
            observer.step(0, network, None)
            return Adaptation(network, warning="too small to adapt to; the network alone was used")
        restoration = trained.restoration
        with torch.no_grad():
            features, mask = restoration.body(crop), trained.mask_network(crop)
        weights = {name: value.detach() for name, value in restoration.heads.named_parameters()}
        adapted = _Adapted(restoration, weights, crop, features)
        for step in range(self.steps):
            weights, loss = adapt_heads(restoration.heads, weights, features, crop, mask, self.lr)
            observer.step(step, adapted, adapted.rebuild, loss_auxiliary=float(loss))
            observer.progress(step + 1, self.steps)
            adapted = _Adapted(restoration, weights, crop, features)
        observer.step(self.steps, adapted, adapted.rebuild, loss_auxiliary=adapted.loss(mask))
        return Adaptation(adapted, self.steps, self.steps, reason=f"all {self.steps} steps")


class _Adapted:
    """The network with other heads; what the body makes of one picture is known already."""

    def __init__(
        self, restoration: Any, parameters: Parameters, picture: Tensor, features: Tensor
    ) -> None:
        self.restoration, self.parameters = restoration, parameters
        self.picture, self.features = picture, features

    def __call__(self, pictures: Tensor) -> Tensor:
        return self._run(pictures)[0]

    def rebuild(self, pictures: Tensor) -> Tensor:
        """The noisy picture as the auxiliary head rebuilds it."""
        return self._run(pictures)[1]

    @torch.no_grad()
    def loss(self, mask: Tensor) -> float:
        """The auxiliary loss on the picture that is known."""
        return float(weighted_l1(self._run(self.picture)[1], self.picture, mask))

    def _run(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        known = pictures.shape == self.picture.shape and torch.equal(pictures, self.picture)
        features = self.features if known else self.restoration.body(pictures)
        heads = self.restoration.heads
        run: tuple[Tensor, Tensor] = functional_call(heads, self.parameters, (features, pictures))
        return run
