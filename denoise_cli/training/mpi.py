"""Recipe ``mpi``: masked pre-training on clean photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..masking import pixel_mask
from ..values import parse_range


@dataclass(frozen=True)
class MPI:
    """Fill in hidden pixels of clean photos.

    Ma et al., "Masked Pre-training Enables Universal Zero-shot Denoiser", NeurIPS 2024, eq. 3-5:
    each pixel is hidden with the probability `mask` (a range is drawn from for each batch), in each
    channel apart or, with `shared_mask`, in all of them, and the network sees the rest and the
    mask. As in the authors' code the loss is 10 log10 of the mean squared error of each picture
    over what was hidden; the paper prints the squared error. The optimizer is the one of all
    recipes here, not AdamW with gradients clipped to 0.01.

    With a `noise` the network sees noisy pixels and learns the clean ones, so that the fill of a
    noisy picture starts as a denoiser; the paper's sees clean photos only. Gray pictures in three
    channels are hidden in all of them, as they are when filled.
    """

    network: str = "hourglass"
    supports: tuple[str, ...] = ("mpi",)
    noise: str | None = None
    mask: str = "0.3"
    shared_mask: bool = False
    lr: float = 3e-3
    weight_decay: float = 0.0
    patch: int = 128
    batch: int = 8

    def network_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` with the number of inputs that fits: a picture and its mask."""
        channels = config.get("channels", 3)
        return {"inputs": channels + (1 if self.shared_mask else channels), **config}

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X); without a noise, `noisy` is `clean`."""
        filled, mask = self._fill(network, noisy, generator)
        error = ((filled.float() - clean) * (1 - mask)).square().mean(dim=(1, 2, 3))
        loss = 10 * torch.log10(error + 1e-8).mean()
        return loss, {"main": loss}

    def predict(self, network: nn.Module, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """`noisy` with what a mask hides filled in, as the network is used: in training mode."""
        network.train()
        filled, mask = self._fill(network, noisy, generator)
        return noisy * mask + filled.float() * (1 - mask)

    def _fill(
        self, network: nn.Module, pictures: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        low, high = parse_range(self.mask)
        u = torch.rand((), generator=generator, device=pictures.device)
        mask = pixel_mask(pictures, low + (high - low) * u, generator, shared=self.shared_mask)
        if not self.shared_mask:
            gray = (pictures == pictures[:, :1]).flatten(1).all(dim=1)
            mask[gray] = mask[gray, :1].expand_as(mask[gray])
        return network(torch.cat([pictures * mask, mask], dim=1)), mask
