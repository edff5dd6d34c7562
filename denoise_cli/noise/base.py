"""What a noise model is, and what models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor


class Noise(Protocol):
    """A noise model."""

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy pictures for `clean` (N, C, Y, X) on 0..1; same shape."""


@runtime_checkable
class Clipping(Noise, Protocol):
    """A noise model that knows the mean of its noisy pictures, as it is not `clean`."""

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See the function of this name."""


@dataclass(frozen=True)
class Range:
    """A parameter that is drawn for each picture, uniformly or in the logarithm."""

    low: float
    high: float
    logarithmic: bool = False

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One value a picture, shaped to broadcast over `clean`."""
        u = torch.rand(len(clean), 1, 1, 1, generator=generator, device=clean.device)
        if self.logarithmic and self.low > 0:
            return self.low * (self.high / self.low) ** u
        return self.low + (self.high - self.low) * u


def sample_and_mean(
    noise: Noise, picture: Tensor, mean: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A noisy picture, and what many such pictures are on average.

    Black clips noise, so the average of many shots of a dark place is brighter than the place. It
    is what can be told from a noisy picture, and what pictures taken as clean ones are.

    Parameters
    ----------
    noise : Noise
        The mean is changed by models with a method of this name.
    picture, mean : Tensor (N, C, Y, X)
        On 0..1; a picture to which noise may have been added before, and the mean of such.

    Returns
    -------
    noisy, mean : Tensor (N, C, Y, X)
    """
    if isinstance(noise, Clipping):
        return noise.sample_and_mean(picture, mean, generator)
    return noise.sample(picture, generator), mean


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """White Gaussian noise of variance 1, shaped as `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


# The middles of sixteen slices of a normal distribution that are equally likely.
_SLICES = torch.special.ndtri((torch.arange(16) + 0.5) / 16).tolist()


def mean_clipped(linear: Tensor, variance: Tensor, power: float = 1.0) -> Tensor:
    """The mean of ``(linear + noise).clamp(0, 1) ** power`` under Gaussian noise."""
    spread = variance.clamp(min=0).sqrt()
    total = torch.zeros_like(linear)  # one by one: sixteen large pictures are much memory
    for z in _SLICES:
        total += developed(linear + z * spread, power)
    return total / len(_SLICES)


def developed(linear: Tensor, power: float) -> Tensor:
    """`linear` light on 0..1, the rest clipped, to this `power`."""
    return linear.clamp(0, 1) ** power


def blurred(pictures: Tensor, width: Tensor, edges: str = "circular") -> Tensor:
    """Blur each picture by a Gaussian of its own standard deviation, in pixels."""
    count, channels, rows, columns = pictures.shape
    reach = torch.arange(-4, 5, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (reach / width.reshape(-1, 1).clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = pictures.reshape(1, count * channels, rows, columns)
    flat = F.pad(flat, (4, 4, 4, 4), mode=edges)
    groups = count * channels
    flat = F.conv2d(flat, kernel.reshape(groups, 1, 9, 1), groups=groups)
    flat = F.conv2d(flat, kernel.reshape(groups, 1, 1, 9), groups=groups)
    return flat.reshape(count, channels, rows, columns)
