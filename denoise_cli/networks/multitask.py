"""The multi-task network of meta-transfer: denoises, and rebuilds the noisy picture from that."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiTask(nn.Module):
    """Residual U-Net with a primary head, an auxiliary head after it, and a mask network.

    Source: Gunawan et al., "Test-time Adaptation for Real Image Denoising via Meta-transfer
    Learning", 2022, figure 2. `restoration` has 603,360 parameters by default, `mask_network`
    56,449. No biases, no normalization. Any size of at least `minimum` works.
    """

    multiple_of = 1

    def __init__(
        self, channels: int = 3, widths: Sequence[int] = (32, 48, 64), blocks: int = 2
    ) -> None:
        super().__init__()
        self.config = {"channels": channels, "widths": list(widths), "blocks": blocks}
        # Each level halves the sides and rounds down; one pixel must be left.
        self.minimum = 2 ** (len(widths) - 1)
        self.restoration = Restoration(channels, widths, blocks)
        self.mask_network = _MaskNetwork(channels, widths[0])

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise `noisy` (N, C, Y, X); the result has the same shape."""
        clean, _ = self.restoration.heads.primary_task(self.restoration.body(noisy), noisy)
        return clean


class Restoration(nn.Module):
    """The body and the heads; all that is not the mask network."""

    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.body = _Body(channels, widths, blocks)
        self.heads = Heads(channels, widths[0])

    def forward(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """`noisy` (N, C, Y, X) -> the clean picture and the rebuilt noisy one, same shapes."""
        pictures: tuple[Tensor, Tensor] = self.heads(self.body(noisy), noisy)
        return pictures


class Heads(nn.Module):
    """What adapts at test time: both heads (58,752 parameters by default)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.primary = nn.Sequential(*_blocks(width, 2), _conv(width, channels))
        self.auxiliary = nn.Sequential(
            _conv(2 * channels, width), _ResidualBlock(width), _conv(width, channels)
        )

    def forward(self, features: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """The clean picture and, from it and what was removed, the noisy one rebuilt."""
        clean, residual = self.primary_task(features, noisy)
        return clean, self.auxiliary(torch.cat([clean, residual], dim=1))

    def primary_task(self, features: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """The clean picture and the residual that was added to `noisy`."""
        residual: Tensor = self.primary(features)
        return noisy + residual, residual


class _Body(nn.Module):
    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.shallow = _conv(channels, widths[0])
        self.encoder = nn.ModuleList(nn.Sequential(*_blocks(w, blocks)) for w in widths)
        self.down = nn.ModuleList(_conv(i, o, 1) for i, o in steps)
        self.decoder = nn.ModuleList(nn.Sequential(*_blocks(w, blocks)) for w in widths)
        self.up = nn.ModuleList(_conv(o, i, 1) for i, o in steps)

    def forward(self, noisy: Tensor) -> Tensor:
        """The features (N, width, Y, X) that both heads work on."""
        x = self.encoder[0](self.shallow(noisy))
        skips = []
        for down, encoder in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = encoder(down(F.interpolate(x, scale_factor=0.5, mode="bilinear")))
        x = self.decoder[-1](x)
        for level in reversed(range(len(skips))):
            skip = skips[level]
            x = self.up[level](F.interpolate(x, size=skip.shape[-2:], mode="bilinear"))
            x = self.decoder[level](x + skip)
        return x


class _MaskNetwork(nn.Module):
    """Where the auxiliary task shall look: (N, 1, Y, X) on 0..1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = _conv(channels, width)
        self.activation = nn.PReLU()  # one weight, shared by all blocks
        self.blocks = nn.ModuleList(_ResidualBlock(width) for _ in range(3))
        self.last = _conv(width, 1)

    def forward(self, noisy: Tensor) -> Tensor:
        x = self.first(noisy)
        for block in self.blocks:
            x = block(x, self.activation)
        return torch.sigmoid(self.last(x))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor] = F.relu) -> Tensor:
        change: Tensor = self.second(activation(self.first(x)))
        return x + change


def _conv(i: int, o: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(i, o, size, padding=size // 2, bias=False)


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [_ResidualBlock(width) for _ in range(count)]
