"""Recipe ``supervised``: noisy pictures in, clean ones out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError

ERRORS = ("l2", "l1", "relative")
# Of the relative error: the variances of noise of sigma 25 and of sigma 1 (of 255), and the power
# of the noise's variance with which the error of a picture grows that is denoised well.
USUAL_NOISE, LEAST_NOISE, ERROR_GROWS = (25 / 255) ** 2, (1 / 255) ** 2, 2 / 3


@dataclass(frozen=True)
class Supervised:
    """Plain training of any network on noisy and clean pictures.

    The loss is the mean squared error, whose minimum is the highest PSNR; `error` ``l1`` is more
    robust to pairs that are not aligned to the pixel. With ``relative`` a picture counts the less,
    the more noise it was given, so that of a mixture the weak noise is learned as well: the errors
    under strong noise are a hundred times as large.
    """

    network: str = "dilated-unet"
    supports: tuple[str, ...] = ("none", "gaintuning")
    error: str = "l2"
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patch: int = 64
    batch: int = 16

    def __post_init__(self) -> None:
        if self.error not in ERRORS:
            raise UsageError(f"error must be one of {', '.join(ERRORS)}, not {self.error!r}")

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it, and its parts."""
        difference = network(noisy).float() - clean
        if self.error == "l1":
            error = difference.abs().mean()
        else:
            errors = difference.square().mean(dim=(1, 2, 3))
            if self.error == "relative":
                given = (noisy - clean).square().mean(dim=(1, 2, 3))
                errors = errors * (USUAL_NOISE / (given + LEAST_NOISE)) ** ERROR_GROWS
            error = errors.mean()
        return error, {"main": error}
