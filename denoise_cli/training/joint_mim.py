"""Recipe ``ttt-mim``: denoising and masked reconstruction, trained jointly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..masking import patch_mask
from ..objectives import masked_l1


@dataclass(frozen=True)
class JointMIM:
    """TTT-MIM's joint training (Mansour et al., ECCV 2024, eq. 2-4).

    The main head learns from clean pictures (L_m), the auxiliary head to fill in hidden cells of
    the noisy picture (L_SSL). Differs from the paper: the L1 of the main head and the masked L1
    have the weights 1 and `share`, and only a `share` of each batch goes through the masked branch,
    since that branch needs fewer samples than the main one for the same quality and each costs a
    pass through the network.
    """

    network: str = "mim-resunet"
    supports: tuple[str, ...] = ("none", "ttt-mim")
    mask_ratio: float = 0.4
    mask_patch: int = 4
    share: float = 0.25
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patch: int = 64
    batch: int = 16

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it, and its parts."""
        masked = noisy[: max(1, round(self.share * len(noisy)))]
        size = (noisy.shape[-2], noisy.shape[-1])
        mask = patch_mask(len(masked), size, self.mask_ratio, self.mask_patch, generator)
        denoised, reconstruction = network.joint(noisy, masked, mask)  # type: ignore[operator]
        main = (denoised - clean).abs().mean()
        auxiliary = masked_l1(reconstruction, masked, mask)
        return main + self.share * auxiliary, {"main": main, "auxiliary": auxiliary}
