"""Recipe ``masked``: clean pictures from noisy ones of which most pixels are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..masking import draw_ratios, hide_pixels, masked_passes
from ..networks.swin import MaskedSwin
from ..values import parse_range

PASSES = 4  # of a validation


@dataclass(frozen=True)
class MaskedImageTraining:
    """Masked image training for generalizable denoising (Chen et al., CVPR 2023, section 4).

    A random share of the input's pixels, `mask` (a number or a range, drawn for each patch), is set
    to -0.1, and the network learns the whole clean picture: it has to know pictures, and cannot get
    by with knowing one noise. In the Swin network a share `attention_mask` of the tokens is hidden
    from each attention layer as well; other networks have the input mask alone, which the authors
    call the part that matters. Differs from their code: the noise is not clipped, there is no
    stochastic depth and no average of the weights.
    """

    network: str = "dilated-unet"
    supports: tuple[str, ...] = ("masked",)
    noise: str | None = "gaussian:15"
    mask: str = "0.75-0.85"
    attention_mask: float = 0.75
    lr: float = 3e-3
    weight_decay: float = 1e-4
    patch: int = 64
    batch: int = 16

    def __post_init__(self) -> None:
        parse_range(self.mask)
        if not 0 <= self.attention_mask < 1:
            raise UsageError(
                f"attention_mask must be at least 0 and below 1, not {self.attention_mask}"
            )

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it, and its parts."""
        ratios = draw_ratios(len(noisy), *parse_range(self.mask), generator)
        shown = hide_pixels(noisy, ratios, generator)
        if isinstance(network, MaskedSwin):
            denoised = network(shown, network.draw_visible(shown, self.attention_mask, generator))
        else:
            denoised = network(shown)
        main = (denoised.float() - clean).abs().mean()
        return main, {"main": main}

    def predict(self, network: nn.Module, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """What a validation scores: masked passes, averaged."""
        ratio = (
            self.attention_mask if isinstance(network, MaskedSwin) else parse_range(self.mask)[0]
        )
        return masked_passes(network, noisy, ratio, PASSES, generator)
