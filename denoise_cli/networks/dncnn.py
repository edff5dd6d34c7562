"""DnCNN, with and without biases: a plain stack of convolutions that predicts the noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DnCNN(nn.Module):
    """A stack of 3x3 convolutions with batch normalization (668,225 parameters by default).

    Source: Zhang et al., "Beyond a Gaussian denoiser", TIP 2017. With ``bias=False`` (667,008) it
    is the bias-free network of Mohan et al., "Robust and interpretable blind image denoising via
    bias-free CNNs", ICLR 2020: its output scales with its input.
    """

    multiple_of = 1
    minimum = 1

    def __init__(
        self, channels: int = 1, width: int = 64, depth: int = 20, bias: bool = True
    ) -> None:
        super().__init__()
        self.config = {"channels": channels, "width": width, "depth": depth, "bias": bias}
        norm = nn.BatchNorm2d if bias else _ScaleNorm
        self.first = _conv(channels, width, bias)
        self.hidden = nn.ModuleList(_conv(width, width, bias) for _ in range(depth - 2))
        self.norms = nn.ModuleList(norm(width) for _ in range(depth - 2))
        self.last = _conv(width, channels, bias)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X) of any size; the result has the same shape."""
        x = F.relu(self.first(noisy))
        for conv, norm in zip(self.hidden, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return noisy - self.last(x)


class _ScaleNorm(nn.BatchNorm2d):
    """Batch normalization that only divides: nothing is subtracted, nothing added.

    The shift of its base class is kept, unused, so that it counts the parameters that the authors
    count and takes all tensors of their files.
    """

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_var is not None
        variance: Tensor = self.running_var
        if self.training:
            variance = x.var(dim=(0, 2, 3))
            with torch.no_grad():
                self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum or 0.0)
        scale = self.weight / (variance.sqrt() + self.eps)
        return x * scale.to(x.dtype).reshape(1, -1, 1, 1)


def _conv(i: int, o: int, bias: bool) -> nn.Conv2d:
    conv = nn.Conv2d(i, o, 3, padding=1, bias=bias)
    nn.init.orthogonal_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
