"""The Swin transformer of masked image training: a small SwinIR without its long skips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedSwin(nn.Module):
    """Residual groups of window attention (824,118 parameters by default).

    Source: Chen et al., "Masked Image Training for Generalizable Deep Image Denoising", CVPR 2023:
    SwinIR (Liang et al., 2021) with a 1x1 embedding and neither of the two long skips, so that the
    network rebuilds the picture from its content. The mean that the authors subtract inside is
    part of the checkpoint's standardization here.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 60,
        depths: Sequence[int] = (6, 6, 6, 6),
        heads: int = 6,
        window: int = 8,
        mlp_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        self.config = {
            "channels": channels,
            "width": width,
            "depths": list(depths),
            "heads": heads,
            "window": window,
            "mlp_ratio": mlp_ratio,
        }
        self.multiple_of = self.minimum = window
        self.tile_bytes = 7200  # a pixel; see `denoise_cli.memory`
        self.depths, self.layers = list(depths), sum(depths)
        self.embedding = nn.Conv2d(channels, width, 1)
        self.first_norm = nn.LayerNorm(width)
        self.groups = nn.ModuleList(
            _Group(width, depth, heads, window, round(width * mlp_ratio)) for depth in depths
        )
        self.last_norm = nn.LayerNorm(width)
        self.fuse = _bottleneck(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, noisy: Tensor, visible: Sequence[Tensor] | None = None) -> Tensor:
        """Denoise `noisy` (N, C, Y, X), sides multiples of the window; same shape back.

        `visible` may hold a mask (N, 1, Y, X) for each of the `layers` attention layers, 0 where a
        token is hidden from its attention.
        """
        masks = [None] * self.layers if visible is None else list(visible)
        x = self.first_norm(self.embedding(noisy).permute(0, 2, 3, 1))  # (N, Y, X, C) inside
        for group, depth in zip(self.groups, self.depths, strict=True):
            x = group(x, masks[:depth])
            masks = masks[depth:]
        x = self.last_norm(x).permute(0, 3, 1, 2)
        return self.last(self.fuse(x))

    def draw_visible(
        self, noisy: Tensor, mask_ratio: float, generator: torch.Generator
    ) -> list[Tensor]:
        """Random masks for `forward`: each token hidden from each layer with `mask_ratio`."""
        size = (len(noisy), 1, *noisy.shape[-2:])
        return [
            (torch.rand(size, generator=generator, device=noisy.device) >= mask_ratio).float()
            for _ in range(self.layers)
        ]


class _Group(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, window: int, hidden: int) -> None:
        super().__init__()
        # Every other block has its windows shifted by half a window.
        self.blocks = nn.ModuleList(
            _Block(width, heads, window, window // 2 if index % 2 else 0, hidden)
            for index in range(depth)
        )
        self.fuse = _bottleneck(width)

    def forward(self, x: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
        y = x
        for block, mask in zip(self.blocks, masks, strict=True):
            y = block(y, mask)
        return x + self.fuse(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, window: int, shift: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        tokens = self.norm(x)
        if mask is not None:
            tokens = tokens * mask.permute(0, 2, 3, 1).to(tokens.dtype)
        x = x + self._attend(tokens)
        return x + self.mlp(self.mlp_norm(x))

    def _attend(self, tokens: Tensor) -> Tensor:
        size = tokens.shape
        if self.shift:
            tokens = tokens.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = _split(tokens, self.window)  # (N, W, T, C): windows, tokens of a window
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # each (N, W, H, T, C / H)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(tokens))
        attended = self.project(attended.transpose(2, 3).flatten(-2))
        result = _merge(attended, self.window, size)
        if self.shift:
            result = result.roll((self.shift, self.shift), dims=(1, 2))
        return result

    def _bias(self, tokens: Tensor) -> Tensor:
        """What is added to the attention: (W or 1, H, T, T)."""
        index = relative_positions(self.window, tokens.device)
        bias = self.position_bias[index].permute(2, 0, 1)[None].to(tokens.dtype)
        if not self.shift:
            return bias
        # The shift wrapped the picture around: tokens from opposite edges must not meet.
        parts = _parts(tokens.shape[1], self.window, self.shift, tokens.device)[:, None]
        across = _parts(tokens.shape[2], self.window, self.shift, tokens.device)[None, :]
        part = _split((3 * parts + across)[None, :, :, None], self.window)[0, :, :, 0]
        apart = part[:, None, :] != part[:, :, None]
        return bias + (apart * -100.0)[:, None].to(tokens.dtype)


def relative_positions(window: int, device: torch.device | None = None) -> Tensor:
    """(T, T): the row of the position bias for each pair of the window's T tokens."""
    steps = torch.arange(window, device=device)
    difference = steps[:, None] - steps[None, :] + window - 1
    rows = difference.repeat_interleave(window, 0).repeat_interleave(window, 1)
    return rows * (2 * window - 1) + difference.repeat(window, window)


def _parts(length: int, window: int, shift: int, device: torch.device) -> Tensor:
    position = torch.arange(length, device=device)
    return (position >= length - window).long() + (position >= length - shift).long()


def _split(x: Tensor, window: int) -> Tensor:
    n, rows, columns, channels = x.shape
    x = x.reshape(n, rows // window, window, columns // window, window, channels)
    return x.transpose(2, 3).reshape(n, -1, window * window, channels)


def _merge(windows: Tensor, window: int, size: Sequence[int]) -> Tensor:
    n, rows, columns, channels = size
    x = windows.reshape(n, rows // window, columns // window, window, window, channels)
    return x.transpose(2, 3).reshape(n, rows, columns, channels)


def _bottleneck(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width // 4, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width // 4, width // 4, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width // 4, width, 3, padding=1),
    )
