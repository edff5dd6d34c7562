"""The hourglass of masked pre-training (MPI): it fills in hidden pixels from the visible ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hourglass(nn.Module):
    """Encoder-decoder with a skip branch at each scale (747,395 parameters by default).

    Source: Ma et al., "Masked Pre-training Enables Universal Zero-shot Denoiser", NeurIPS 2024,
    whose network is that of Ulyanov et al., "Deep Image Prior", CVPR 2018, at 64 channels.

    The input is the masked picture and its mask along the channels: 3 + 3 with a mask for each
    channel, 3 + 1 with one for all (746,115 parameters). The authors always run it in training
    mode, where batch normalization uses the statistics of the picture at hand.
    """

    multiple_of = 1

    def __init__(
        self, inputs: int = 6, channels: int = 3, width: int = 64, scales: int = 5
    ) -> None:
        super().__init__()
        self.config = {"inputs": inputs, "channels": channels, "width": width, "scales": scales}
        # Below, the deepest map has one pixel, which can be neither mirrored nor normalized.
        self.minimum = 2**scales + 1
        levels = [_Scale(width if level else inputs, width) for level in range(scales)]
        self.scales = nn.ModuleList(levels)
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, masked: Tensor) -> Tensor:
        """Fill in `masked` (N, inputs, Y, X); the result is (N, channels, Y, X) on 0..1."""
        x, skips = masked, []
        scales: list[_Scale] = list(self.scales)  # type: ignore[arg-type]
        for scale in scales:
            skips.append(_apply(scale.skip, x))
            x = _apply(scale.down, x)
        for scale in reversed(scales):
            x = scale.joined(skips.pop(), x)
        return torch.sigmoid(self.last(x))


class _Scale(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.skip = _block(inputs, width, 1)
        self.down = nn.Sequential(*_block(inputs, width, 3, stride=2), *_block(width, width, 3))
        self.join = nn.Sequential(
            nn.BatchNorm2d(2 * width), *_block(2 * width, width, 3), *_block(width, width, 1)
        )

    def joined(self, skip: Tensor, deeper: Tensor) -> Tensor:
        """The features of this scale from those of its skip branch and of the next scale."""
        rows, columns = skip.shape[-2:]
        norm, conv, after, activation, *others = list[Any](self.join)
        if norm.training or rows % 2 or columns % 2:
            x = F.interpolate(deeper, scale_factor=2, mode="nearest")
            # Of odd sides the way down rounds up, so the way up may be a row or column longer.
            x = torch.cat([skip, x[..., :rows, :columns]], dim=1)
            return _apply(others, activation(after(conv(norm(x)))))
        # The same in fewer steps: of the 9 products a pixel that a picture of twice the size takes,
        # 4 are different, and it is neither made nor joined to the other.
        weight, bias = _folded(conv, after, before=norm)
        fine, coarse = weight.split([skip.shape[1], deeper.shape[1]], dim=1)
        coarse = 4 * F.avg_pool2d(F.pad(coarse.flip(2, 3), (1, 1, 1, 1)), 2, stride=1)
        deeper = F.pad(deeper, (1, 1, 1, 1), mode="replicate")  # twice as large, this is mirrored
        x = F.conv2d(_mirrored(skip), fine, bias)
        x = x + F.conv_transpose2d(deeper, coarse.transpose(0, 1), stride=2, padding=3)
        return _apply(others, activation(x))


class _Mirrored(torch.autograd.Function):
    """Pads pictures by a mirrored row or column on each side.

    PyTorch's own form copies features that lie channels last to and fro.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Pad `x` (N, C, Y, X)."""
        count, channels, rows, columns = x.shape
        layout = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
        size = count, channels, rows + 2, columns + 2
        padded = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
        padded[..., 1:-1, 1:-1] = x
        padded[..., 0, 1:-1], padded[..., -1, 1:-1] = x[..., 1, :], x[..., -2, :]
        padded[..., 0], padded[..., -1] = padded[..., 2], padded[..., -3]
        return padded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """What reaches a pixel through its mirror images is added to it."""
        layout = torch.channels_last if grad.stride(1) == 1 else torch.contiguous_format
        inner = grad[..., 1:-1].clone(memory_format=layout)
        inner[..., 1] += grad[..., 0]
        inner[..., -2] += grad[..., -1]
        inner[..., 2, :] += inner[..., 0, :]
        inner[..., -3, :] += inner[..., -1, :]
        return inner[..., 1:-1, :].contiguous(memory_format=layout)


def _mirrored(x: Tensor) -> Tensor:
    padded: Tensor = _Mirrored.apply(x)  # type: ignore[no-untyped-call]
    return padded


def _apply(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """What blocks make of `x`; out of training, their norms are part of the convolutions."""
    steps = iter(list[Any](layers))
    for conv, norm, activation in zip(steps, steps, steps, strict=True):
        if norm.training:
            x = norm(conv(x))
        else:
            weight, bias = _folded(conv, norm)
            x = _mirrored(x) if conv.kernel_size[0] > 1 else x
            x = F.conv2d(x, weight, bias, conv.stride)
        x = activation(x)
    return x


def _folded(
    conv: nn.Conv2d, after: nn.BatchNorm2d, before: nn.BatchNorm2d | None = None
) -> tuple[Tensor, Tensor]:
    """Weight and bias of `conv` together with the norms around it, at their own statistics."""
    scale, shift = _affine(after)
    assert conv.bias is not None
    weight, bias = conv.weight * scale.reshape(-1, 1, 1, 1), conv.bias * scale + shift
    if before is not None:
        scale, shift = _affine(before)
        bias = bias + weight.sum(dim=(2, 3)) @ shift
        weight = weight * scale.reshape(-1, 1, 1)
    return weight, bias


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _block(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
    padding = size // 2
    return nn.Sequential(
        nn.Conv2d(i, o, size, stride, padding, padding_mode="reflect" if padding else "zeros"),
        nn.BatchNorm2d(o),
        nn.LeakyReLU(0.2, inplace=True),
    )
