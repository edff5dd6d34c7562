"""Networks of other programs, with the facts that this one asks of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Foreign(nn.Module):
    """Somebody else's image-to-image network.

    Parameters
    ----------
    model : torch.nn.Module
        (N, C, Y, X) on 0..1 -> the same shape.
    channels, multiple_of, minimum : int
        What it takes: channels of a picture, and multiples and the least of its sides.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        channels: int,
        multiple_of: int = 1,
        minimum: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = {"channels": channels}
        self.multiple_of, self.minimum = max(multiple_of, 1), max(minimum, 1)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X); the result has the same shape."""
        return _only(self.model(noisy))


class LevelInput(Foreign):
    """A network that must be told the noise: it takes a map of sigma as a further channel."""

    sigma: float | None = None

    def at(self, sigma: float) -> LevelInput:
        """This network for noise of standard deviation `sigma`, on 0..1; shares the weights."""
        told = copy.copy(self)
        told.sigma = sigma
        return told

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X); the result has the same shape."""
        if self.sigma is None:
            raise ValueError("the noise level is not set; use at(sigma)")
        level = torch.full_like(noisy[:, :1], self.sigma)
        return _only(self.model(torch.cat([noisy, level], dim=1)))


def _only(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The picture; some networks return further findings with it."""
    return output if isinstance(output, Tensor) else output[0]
