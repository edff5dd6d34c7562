"""Recipe ``supervised``: noisy pictures in, clean ones out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Supervised:
    """Plain training of any network on noisy and clean pictures.

    The loss is the mean squared error, whose minimum is the highest PSNR; `loss` ``l1`` is more
    robust to pairs that are not aligned to the pixel.
    """

    network: str = "dilated-unet"
    supports: tuple[str, ...] = ("none", "gaintuning")
    error: str = "l2"
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patch: int = 64
    batch: int = 16

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it, and its parts."""
        difference = network(noisy).float() - clean
        error = difference.abs().mean() if self.error == "l1" else difference.square().mean()
        return error, {"main": error}
