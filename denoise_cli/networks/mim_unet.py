"""The joint U-Net of TTT-MIM: one encoder-decoder, a denoising head and a reconstruction head."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .joint import JointNetwork


class MIMUNet(JointNetwork):
    """Joint U-Net with group normalization, as published (7,799,974 parameters by default).

    Source: Mansour et al., "TTT-MIM: Test-Time Training with Masked Image Modeling for
    Denoising Distribution Shifts", ECCV 2024, section 3 and supplement: the fastMRI U-Net with a
    1x1 embedding, a learnable mask token and two heads on the shared feature map Z. The main head
    predicts the noise, the auxiliary head the picture.

    Any height and width of at least 16 work: where an upsampled map is one row or column short of
    its skip it is reflect-padded, as in the authors' code.
    """

    multiple_of = 16
    minimum = 32

    def __init__(
        self, channels: int = 3, width: int = 32, levels: int = 4, shift: tuple[float, ...] = ()
    ) -> None:
        super().__init__()
        self.config = {"channels": channels, "width": width, "levels": levels}
        if shift:
            self.brighten(torch.tensor(shift))
        widths = [width * 2**level for level in range(levels + 1)]
        self.embedding = nn.Conv2d(channels, width, 1)
        self.mask_token = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.encoder = nn.ModuleList(
            [_conv_block(width, width)]
            + [_conv_block(i, o) for i, o in itertools.pairwise(widths[:-1])]
        )
        self.bottleneck = _conv_block(widths[-2], widths[-1])
        self.up = nn.ModuleList(_up(o, i) for i, o in itertools.pairwise(widths))
        # There is no shared last block: Z is [upsampled, first skip], 2 x width channels.
        self.decoder = nn.ModuleList(_conv_block(2 * i, i) for i in widths[1:-1])
        self.main_head = _head(2 * width, width, channels)
        self.auxiliary_head = _head(2 * width, width, channels)
        self._initialize()

    def _initialize(self) -> None:
        # The authors create the embedding, the first block and the heads after this
        # initialization, so those keep the framework's default.
        for part in (self.encoder[1:], self.bottleneck, self.up, self.decoder):
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.kaiming_normal_(
                        module.weight, a=0.2, mode="fan_out", nonlinearity="leaky_relu"
                    )

    def _features(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.bottleneck(x)
        for level in reversed(range(len(skips))):
            x = self.up[level](x)
            skip = skips[level]
            short = (0, skip.shape[-1] - x.shape[-1], 0, skip.shape[-2] - x.shape[-2])
            if any(short):
                x = F.pad(x, short, mode="reflect")
            x = torch.cat([x, skip], dim=1)
            if level:
                x = self.decoder[level - 1](x)
        return x


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(channels // 16, 1), channels)


def _conv_block(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1, bias=False),
        _norm(o),
        nn.LeakyReLU(0.2),
        nn.Conv2d(o, o, 3, padding=1, bias=False),
        _norm(o),
        nn.LeakyReLU(0.2),
    )


def _up(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(i, o, 2, stride=2, bias=False), _norm(o), nn.LeakyReLU(0.2)
    )


def _head(i: int, width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_block(i, width), nn.Conv2d(width, channels, 1))
