"""Windows of a picture, those of them that are flat, and what they hold put down elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BRIGHTNESS_BINS = 8
FLAT_FRACTION = 0.1


@dataclass(frozen=True)
class FlatPlaces:
    """The windows of pictures, detrended, and those that are flat.

    Attributes
    ----------
    samples, removed : Tensor (N, C, W, W)
        What each window holds, and what was taken away of it.
    donors : Tensor (D)
        Indices of the flattest windows of each brightness, sorted by brightness.
    brightness : Tensor (N)
        That of each window.
    """

    samples: Tensor
    removed: Tensor
    donors: Tensor
    brightness: Tensor

    @classmethod
    def of(cls, noisy: Tensor, denoised: Tensor, size: int) -> FlatPlaces:
        """Of windows of so many pixels a side; `denoised` (K, C, Y, X) shows where it is flat."""
        brightness, samples, left = detrended(noisy, denoised, size)
        removed = samples - left
        spread = energy(left)
        donors = []
        for part in by_brightness(brightness, usable(spread + energy(removed))):
            keep = math.ceil(FLAT_FRACTION * len(part))
            donors.append(part[spread[part].argsort()[:keep]])
        chosen = torch.cat(donors)
        return cls(samples, removed, chosen[brightness[chosen].argsort()], brightness)

    def pieces(self, samples: Tensor, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """For places all over `noisy` (K, C, Y, X) `samples` (N, C, W, W) of donors, for `laid`.

        Of about the same brightness, from any of the pictures, flipped at random.
        """
        sites = F.adaptive_avg_pool2d(noisy.mean(1, keepdim=True), _grid(noisy, samples)).flatten()
        pieces = samples[_draw(sites, self.brightness[self.donors], self.donors, generator)]
        flips = torch.rand(len(pieces), 3, 1, 1, 1, generator=generator, device=noisy.device) < 0.5
        pieces = torch.where(flips[:, 0], pieces.flip(-1), pieces)
        pieces = torch.where(flips[:, 1], pieces.flip(-2), pieces)
        return torch.where(flips[:, 2], -pieces, pieces)


def energy(samples: Tensor) -> Tensor:
    """The mean square of each of the windows (N, C, W, W)."""
    return samples.square().mean(dim=(1, 2, 3))


def usable(spread: Tensor) -> Tensor:
    """Indices of the windows that hold noise: clipped ones must not pass for flat ones."""
    return (spread > 1e-3 * spread.median()).nonzero().flatten()


def by_brightness(brightness: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    """`indices` in groups of about equal brightness, from dark to bright."""
    order = indices[brightness[indices].argsort()]
    return order.tensor_split(min(BRIGHTNESS_BINS, len(order))) if len(order) else ()


def detrended(noisy: Tensor, denoised: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness (K) of the windows of `noisy`; detrended windows (K, C, W, W) of both."""
    samples = windows(noisy, size)
    brightness = samples.mean(dim=(1, 2, 3))
    return brightness, detrend(samples), detrend(windows(denoised, size))


def windows(pictures: Tensor, size: int) -> Tensor:
    """Those (N, C, size, size) of `pictures` (K, C, Y, X), half of their size apart."""
    unfolded = F.unfold(pictures, size, stride=size // 2).transpose(1, 2)
    return unfolded.reshape(-1, pictures.shape[1], size, size)


def detrend(samples: Tensor) -> Tensor:
    """Subtract each window's least-squares plane."""
    size = samples.shape[-1]
    ramp = torch.linspace(-1, 1, size, device=samples.device)
    ramp = ramp / ramp.square().mean().sqrt()
    across, down = ramp.expand(size, size), ramp.reshape(-1, 1).expand(size, size)
    result = samples - samples.mean(dim=(2, 3), keepdim=True)
    for slope in (across, down):
        result = result - (result * slope).mean(dim=(2, 3), keepdim=True) * slope
    # Three of the window's degrees of freedom went into the plane.
    return result * math.sqrt(size**2 / (size**2 - 3))


def _draw(sites: Tensor, brightness: Tensor, donors: Tensor, generator: torch.Generator) -> Tensor:
    """For each site a random donor among those nearest in brightness."""
    near = max(1, len(donors) // BRIGHTNESS_BINS)
    nearest = (sites[:, None] - brightness[None]).abs().topk(near, dim=1, largest=False).indices
    pick = torch.randint(near, (len(sites), 1), generator=generator, device=sites.device)
    return donors[nearest.gather(1, pick).flatten()]


def laid(pieces: Tensor, noisy: Tensor) -> Tensor:
    """`pieces` (N, C, W, W) put down all over; the shape of `noisy` (K, C, Y, X).

    They overlap by half under a window whose squares sum to 1, which keeps the variance and, better
    than pieces laid edge to edge, the correlation.
    """
    size, (rows, columns) = pieces.shape[-1], _grid(noisy, pieces)
    half = size // 2
    sine = torch.sin(math.pi * (torch.arange(size, device=noisy.device) + 0.5) / size)
    pieces = pieces * sine * sine.reshape(-1, 1)
    sides = ((rows + 1) * half, (columns + 1) * half)
    columns_of_pieces = pieces.reshape(len(noisy), rows * columns, -1).transpose(1, 2)
    field = F.fold(columns_of_pieces, sides, size, stride=half)
    return field[..., half : half + noisy.shape[-2], half : half + noisy.shape[-1]]


def _grid(noisy: Tensor, pieces: Tensor) -> tuple[int, int]:
    """How many pieces lie below and beside one another."""
    half = pieces.shape[-1] // 2
    rows, columns = (math.ceil(n / half) + 1 for n in noisy.shape[-2:])
    return rows, columns
