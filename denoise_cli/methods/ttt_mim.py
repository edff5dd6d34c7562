"""TTT-MIM: test-time training with masked image modeling."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..adam import Adam
from ..masking import patch_mask
from ..objectives import GRADIENT_SCALE, masked_l1
from ..validation import Estimate, noise_bound
from .base import SMALLEST_SIDE, Adaptation, Observer, option, random_crop, require, too_small
from .estimates import Parts, fitting

KNOWN = "the network knows this noise, or what it leaves is texture"
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
    what they cover is tried out elsewhere; both are exact enough to be followed for a gain of 0.05
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
            parts = Parts.of(network, noisy, part)
            part, bound = parts.noisy[:1], noise_bound(parts.noisy)
            if bound < parts.weakest:
                observer.step(0, network, None)
                sigma = 255 * bound
                reason = f"noise of sigma {sigma:.1f} of 255 at most is too weak to learn from"
                return Adaptation(network, reason=reason)
            risk = fitting(network, noisy, parts, generator)
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


def _reconstruct(network: nn.Module, mask: Tensor, pictures: Tensor) -> Tensor:
    whole = torch.ones(pictures.shape[0], 1, *pictures.shape[-2:], device=pictures.device)
    rows, columns = (min(a, b) for a, b in zip(mask.shape[-2:], whole.shape[-2:], strict=True))
    whole[..., :rows, :columns] = mask[..., :rows, :columns]
    reconstruction: Tensor = network.reconstruct(pictures, whole)  # type: ignore[operator]
    return reconstruction
