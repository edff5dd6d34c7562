"""A residual U-Net that fills in hidden pixels: the network of MPI's own checkpoints here."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .mim_resunet import ResidualBody, conv, head


class FillResUNet(ResidualBody):
    """Predicts the picture from its visible pixels and their mask.

    Input and output are those of the hourglass of MPI (see `hourglass`); the body is that of
    `mim_resunet`, without norms or biases, so that a trained ``mim-resunet`` can be its start: then
    it is a good denoiser before it has seen the picture that it is adapted to.

    Attributes
    ----------
    fill_lr : float
        Adam's learning rate while it fills in a picture; at three times as much it diverges.
    """

    fill_lr = 5e-4

    def __init__(
        self,
        inputs: int = 6,
        channels: int = 3,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        self.config = {
            "inputs": inputs,
            "channels": channels,
            "widths": list(widths),
            "blocks": blocks,
        }
        self.embedding = conv(inputs, widths[0], 1)
        self.add_body(widths, blocks)
        # Pads by itself: what is filled in may have any size.
        self._sides, self.multiple_of = self.multiple_of, 1
        self.head = head(widths[0], channels)

    def forward(self, masked: Tensor) -> Tensor:
        """Fill in `masked` (N, inputs, Y, X); the result is (N, channels, Y, X), about 0..1."""
        rows, columns = masked.shape[-2:]
        padding = (0, -columns % self._sides, 0, -rows % self._sides)
        padded = F.pad(masked, padding, mode="replicate") if any(padding) else masked
        filled: Tensor = self.head(self._features(self.embedding(padded)))
        return filled[..., :rows, :columns]
