"""Masked image training at test time: several masked passes, averaged; nothing is adapted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..masking import masked_passes
from .base import Adaptation, Observer, option, require


@dataclass(frozen=True)
class Masked:
    """Average several passes of a network trained on masked pictures, each with its own mask.

    Chen et al., "Masked Image Training for Generalizable Deep Image Denoising", CVPR 2023. The Swin
    network is run as by the authors, with tokens hidden from its attention and all pixels shown;
    they report 0.3 dB more for an average over one pass. A network that knows no attention masks
    sees masked pixels instead: a convolutional network trained on masked pictures alone does not
    know what to do with a whole one. Not in the paper: its masks hide each pixel equally often, and
    the picture is turned or mirrored from pass to pass (0.4 dB with 8 passes). All masks follow
    from the seed.
    """

    passes: int = option(8, "passes that are averaged; 1 is fast")
    mask_ratio: float = option(0.65, "share of the pixels (Swin: tokens of the attention) hidden")

    def __post_init__(self) -> None:
        require(self.passes >= 1, f"passes must be 1 or more, not {self.passes}")
        require(
            0 <= self.mask_ratio < 1,
            f"mask_ratio must be at least 0 and below 1, not {self.mask_ratio}",
        )

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Draw the seed of the masks; the network stays as it is."""
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        predict = partial(self._predict, network, seed)
        observer.step(0, predict, None)
        passes = "1 masked pass" if self.passes == 1 else f"{self.passes} masked passes, averaged"
        return Adaptation(predict, reason=f"no adaptation: {passes}")

    def _predict(self, network: nn.Module, seed: int, pictures: Tensor) -> Tensor:
        # Every call starts from the seed, so that the result does not depend on what came before.
        generator = torch.Generator(device=pictures.device).manual_seed(seed)
        return masked_passes(network, pictures, self.mask_ratio, self.passes, generator)
