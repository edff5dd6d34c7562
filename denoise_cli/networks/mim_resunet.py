"""A joint residual U-Net for TTT-MIM without norms or biases: quicker to train and to run."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .joint import JointNetwork


class ResidualBody(nn.Module):
    """The encoder and decoder of a residual U-Net, from features to features of the same size."""

    minimum = 16

    def add_body(self, widths: tuple[int, ...], blocks: int) -> None:
        """Make the layers: `blocks` residual blocks at each of the scales, of `widths` channels."""
        self.multiple_of = 2 ** (len(widths) - 1)
        self.encoder = nn.ModuleList(_blocks(width, blocks) for width in widths)
        self.down = nn.ModuleList(
            nn.Conv2d(i, o, 2, stride=2, bias=False) for i, o in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(o, i, 2, stride=2, bias=False) for i, o in itertools.pairwise(widths)
        )
        self.decoder = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])

    def _features(self, x: Tensor) -> Tensor:
        skips = []
        for level, blocks in enumerate(self.encoder):
            x = blocks(x)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)
        for level in reversed(range(len(skips))):
            x = self.decoder[level](self.up[level](x) + skips[level])
        return x


class MIMResUNet(ResidualBody, JointNetwork):
    """Joint residual U-Net: norm-free, bias-free, additive skips.

    The embedding, the mask token and the two heads are those of TTT-MIM (see `mim_unet`); the body
    is the residual U-Net of DRUNet (Zhang et al., TPAMI 2021) at smaller widths. Without biases the
    denoising output scales with its input, which carries over to noise levels not trained on
    (Mohan et al., "Robust and interpretable blind image denoising via bias-free CNNs", ICLR 2020).
    """

    def __init__(
        self,
        channels: int = 3,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        blocks: int = 1,
        shift: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.config = {"channels": channels, "widths": list(widths), "blocks": blocks}
        if shift:
            self.brighten(torch.tensor(shift))
        first = widths[0]
        self.embedding = conv(channels, first, 1)
        self.mask_token = nn.Parameter(torch.zeros(1, first, 1, 1))
        self.add_body(widths, blocks)
        self.main_head = head(first, channels)
        self.auxiliary_head = head(first, channels)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width, 3)
        self.second = conv(width, width, 3)
        # Norm-free residual branches must start small, or the signal grows with depth.
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


def conv(i: int, o: int, size: int) -> nn.Conv2d:
    """A convolution without bias that keeps the size."""
    conv = nn.Conv2d(i, o, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_ResidualBlock(width) for _ in range(count)))


def head(width: int, channels: int) -> nn.Sequential:
    """Two convolutions from features to a picture, small at the start."""
    head = nn.Sequential(conv(width, width, 3), nn.ReLU(), conv(width, channels, 3))
    with torch.no_grad():
        head[-1].weight.mul_(0.1)  # type: ignore[operator]
    return head
