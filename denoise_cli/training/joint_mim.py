"""Recipe ``ttt-mim``: denoising and masked reconstruction, trained jointly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..masking import draw_ratios, hide_pixels, patch_mask
from ..objectives import masked_l1
from ..values import parse_range

ERRORS = ("l1", "relative")
AUXILIARY = "auxiliary"
# Of the relative error: a mean absolute error that is weighted as without it, and half a step of 8
# bits, below which no error is worth learning from.
USUAL_ERROR, LEAST_ERROR = 0.02, 0.002


@dataclass(frozen=True)
class JointMIM:
    """TTT-MIM's joint training (Mansour et al., ECCV 2024, eq. 2-4).

    The main head learns from clean pictures (L_m), the auxiliary head to fill in hidden cells of
    the noisy picture (L_SSL). Differs from the paper: the L1 of the main head and the masked L1
    have the weights 1 and `share`, and only a `share` of each batch goes through the masked branch,
    since that branch needs fewer samples than the main one for the same quality and each costs a
    pass through the network. With `error` ``relative`` the logarithm of each picture's L1 is
    learned from, as PSNR counts it: otherwise a nearly clean picture, whose errors are small, says
    nothing beside a noisy one, and is blurred.

    With a `mask` (a number or a range that begins at 0) the main head sees pictures of which that
    share of the pixels is hidden, as in masked image training (Chen et al., CVPR 2023), so that
    test-time training starts from a network that knows more than its one noise. The range begins
    at 0 because the pictures that it denoises later are whole.

    With `only` ``auxiliary`` the auxiliary head alone learns, and the denoising stays as it is. A
    network that the recipe ``supervised`` has taught denoising gets its second task this way: the
    joint loss costs some of the quality of the first.
    """

    network: str = "mim-resunet"
    supports: tuple[str, ...] = ("none", "ttt-mim")
    mask_ratio: float = 0.4
    mask_patch: int = 4
    share: float = 0.25
    error: str = "l1"
    mask: str = "0"
    only: str = ""
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patch: int = 64
    batch: int = 16

    def __post_init__(self) -> None:
        if self.error not in ERRORS:
            raise UsageError(f"error must be {' or '.join(ERRORS)}, not {self.error!r}")
        if self.only not in ("", AUXILIARY):
            raise UsageError(f"only must be {AUXILIARY} or empty, not {self.only!r}")
        if parse_range(self.mask)[0] > 0:
            raise UsageError(f"mask must begin at 0, as in 0-0.8, not {self.mask}")

    def prepare(self, network: nn.Module) -> None:
        """Keep what does not learn as it is."""
        if self.only:
            network.requires_grad_(False)
            network.auxiliary_head.requires_grad_(True)

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it, and its parts."""
        share = 1 if self.only else self.share
        masked = noisy[: max(1, round(share * len(noisy)))]
        size = (noisy.shape[-2], noisy.shape[-1])
        mask = patch_mask(len(masked), size, self.mask_ratio, self.mask_patch, generator)
        if self.only:
            reconstruction = network.reconstruct(masked, mask)  # type: ignore[operator]
            auxiliary = masked_l1(reconstruction, masked, mask)
            return auxiliary, {"auxiliary": auxiliary}
        shown = noisy
        low, high = parse_range(self.mask)
        if high:
            ratios = draw_ratios(len(noisy), low, high, generator)
            shown = hide_pixels(noisy, ratios, generator)
        denoised, reconstruction = network.joint(shown, masked, mask)  # type: ignore[operator]
        errors = (denoised - clean).abs().mean(dim=(1, 2, 3))
        if self.error == "relative":
            errors = USUAL_ERROR * torch.log(errors + LEAST_ERROR)
        main = errors.mean()
        auxiliary = masked_l1(reconstruction, masked, mask)
        return main + self.share * auxiliary, {"main": main, "auxiliary": auxiliary}
