"""GainTuning: one gain for each channel of each convolution, learned from the noisy picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import noise_level, objectives
from ..gains import fold, with_gains
from ..noise_level import NoiseLevel
from .base import Adaptation, Observer, option, random_crop, require, too_small

LOSSES = ("auto", "blind-spot", "sure", "resample")
SMALLEST_SIDE = 32
HIDDEN_SHARE = 0.05
SHOW_EVERY = 10


@dataclass(frozen=True)
class GainTuning:
    """Tune one gain per channel of every convolution of the network, and nothing else.

    Mohan et al., "Adaptive Denoising via GainTuning", NeurIPS 2021, eq. 4 to 7. The gains are about
    0.2 % of the parameters, start at 1 for each picture, and are too few to fit the noise. The
    losses need no clean picture: ``blind-spot`` asks only for noise that is independent from pixel
    to pixel, ``sure`` and ``resample`` for its level. ``auto`` is ``sure`` where the level is told
    or can be estimated, and ``blind-spot`` for told noise of another kind. The authors' code is not
    public: optimizer (Adam), learning rate, steps and probe are choices of this program. Large
    pictures are learned from random crops, and the learning rate falls to 0 over the steps, which
    averages the random crops and probes.
    """

    any_network: ClassVar[bool] = True
    takes_noise: ClassVar[bool] = True

    loss: str = option("auto", "auto, blind-spot, sure or resample")
    steps: int = option(100, "gradient steps")
    lr: float = option(2e-3, "Adam learning rate of the first step")
    crop: int = option(256, "side of the random crop a step learns from, in pixels")

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
        if min(noisy.shape[-2:]) < smallest:
            return too_small(network, smallest, observer)
        multiple: int = network.multiple_of  # type: ignore[assignment]
        size = min(max(self.crop, smallest), *noisy.shape[-2:]) // multiple * multiple
        loss, level = self._chosen(noisy, noise)
        network = _seeing_all(network)
        tuned, gains = with_gains(network)
        optimizer = torch.optim.Adam(gains, lr=self.lr)
        observer.step(0, tuned, None)
        for step in range(1, self.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * (1 - (step - 1) / self.steps)
            crop = random_crop(noisy, size, generator)
            value = _loss(loss, tuned, network, crop, level, generator)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            if step % SHOW_EVERY == 0 or step == self.steps:
                observer.step(step, tuned, None, loss=value.item())
            observer.progress(step, self.steps)
        return Adaptation(fold(tuned), self.steps, self.steps, None, self._reason(loss, level))

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
        return loss, noise if isinstance(noise, NoiseLevel) else noise_level.estimate(noisy)

    def _reason(self, loss: str, level: NoiseLevel | None) -> str:
        return f"all {self.steps} steps of the {loss} loss" + (
            "" if level is None else f" at noise of sigma {level.sigma:.3g}"
        )


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
    noisy: Tensor,
    level: NoiseLevel | None,
    generator: torch.Generator,
) -> Tensor:
    if level is None:
        return objectives.blind_spot(tuned, noisy, HIDDEN_SHARE, generator)
    if name == "sure":
        return objectives.sure(tuned, noisy, level, generator)
    with torch.no_grad():
        estimate = network(noisy).float()
    return objectives.resample(tuned, estimate, level, generator)
