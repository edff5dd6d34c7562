"""Recipe ``noise2void``: training without clean pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..masking import patch_mask
from ..networks.joint import JointNetwork
from ..objectives import masked_l1


@dataclass(frozen=True)
class Noise2Void:
    """Blind-spot training on noisy pictures alone, for noise that is independent between pixels.

    Krull et al., "Noise2Void: Learning denoising from single noisy images", CVPR 2019: a few
    pixels of the input are replaced by one of their neighbors and the network has to predict what
    they were; it can only do so from around them, and so learns the picture without its noise. The
    loss is the squared error there, since the mean of the noise is zero but its median need not
    be. A network with a reconstruction head learns masked reconstruction of the noisy pictures
    besides (TTT-MIM, eq. 3), which needs no clean ones either. The network ``blind-spot`` cannot
    see the pixels that it predicts: none are replaced, and it learns from all (Laine et al., "High-
    quality self-supervised deep image denoising", NeurIPS 2019).
    """

    network: str = "mim-resunet"
    supports: tuple[str, ...] = ("none", "ttt-mim")
    noise: str | None = None
    blind: float = 0.02
    reach: int = 2
    mask_ratio: float = 0.4
    mask_patch: int = 4
    share: float = 0.25
    lr: float = 1e-3
    weight_decay: float = 1e-4
    patch: int = 64
    batch: int = 16

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it; `clean` is not looked at."""
        del clean
        if getattr(network, "blind_spot", False):
            main = (network(noisy).float() - noisy).square().mean()
            return main, {"main": main}
        size = (noisy.shape[-2], noisy.shape[-1])
        blind = patch_mask(len(noisy), size, self.blind, 1, generator)  # 0 where it is blind
        spotted = noisy * blind + self._neighbor(noisy, generator) * (1 - blind)
        masked = noisy[: max(1, round(self.share * len(noisy)))]
        mask = patch_mask(len(masked), size, self.mask_ratio, self.mask_patch, generator)
        if isinstance(network, JointNetwork):
            denoised, reconstruction = network.joint(spotted, masked, mask)
            auxiliary = masked_l1(reconstruction, masked, mask)
        else:
            denoised, auxiliary = network(spotted), noisy.new_zeros(())
        hidden = 1 - blind
        squared = (denoised.float() - noisy).square() * hidden
        main = squared.sum() / (hidden.sum() * noisy.shape[1])
        return main + self.share * auxiliary, {"main": main, "auxiliary": auxiliary}

    def supported_by(self, network: nn.Module) -> tuple[str, ...]:
        """The methods that work with a trained `network`."""
        return self.supports if isinstance(network, JointNetwork) else ("none", "gaintuning")

    def _neighbor(self, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """For each pixel the value of a random one nearby, never its own."""
        count, _, rows, columns = noisy.shape
        side = 2 * self.reach + 1
        # The middle of the neighborhood is left out.
        steps = torch.randint(
            side * side - 1, (count, rows, columns), generator=generator, device=noisy.device
        )
        steps = steps + (steps >= side * side // 2)
        dy, dx = steps // side - self.reach, steps % side - self.reach
        # Around the border: reflected, some would land on themselves.
        y = (torch.arange(rows, device=noisy.device).reshape(-1, 1) + dy) % rows
        x = (torch.arange(columns, device=noisy.device) + dx) % columns
        index = (y * columns + x).flatten(1)[:, None].expand(-1, noisy.shape[1], -1)
        return noisy.flatten(2).gather(2, index).reshape(noisy.shape)
