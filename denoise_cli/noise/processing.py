"""What lenses and files do to pictures, before noise and after it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import window_mean
from .base import Range, blurred, mean_clipped


@dataclass(frozen=True)
class Defocus:
    """No noise, but a softer picture for the noise after it, as in ``defocus:0.5-1.5+camera``.

    Pixels of cameras and microscopes are finer than what their lenses draw; pictures made smaller
    are sharper. A Gaussian of standard deviation SIGMA, in pixels.
    """

    sigma: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return self.sample_and_mean(clean, clean, generator)[0]

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        sigma = self.sigma.draw(picture, generator)
        return blurred(picture, sigma, "replicate"), blurred(mean, sigma, "replicate")


@dataclass(frozen=True)
class Bilateral:
    """A camera's own noise reduction, of the noise before it, which spares edges and texture.

    The bilateral filter (Tomasi and Manduchi, ICCV 1998), as in ``camera+bilateral:1-2+jpeg:90``.
    STRENGTH is the difference that it takes for noise, in standard deviations of the noise; WIDTH
    is that of its Gaussian, in pixels; KEPT, 0 to 1, is how much of the noise passes it. It is
    the noise alone that is averaged, by weights that are seen in the noisy picture: so more noise
    is left in texture than in flat places, and no texture is lost.
    """

    strength: Range
    width: Range = Range(1.0, 2.0)
    kept: Range = Range(0.0, 0.4)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return clean

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        noise = picture - mean
        level = noise.square().mean((1, 2, 3), keepdim=True).sqrt()
        alike = 2 * (self.strength.draw(picture, generator) * level).clamp(min=1e-6) ** 2
        near = 2 * self.width.draw(picture, generator).clamp(min=0.05) ** 2
        kept = self.kept.draw(picture, generator)
        rows, columns = picture.shape[-2:]
        reach = math.ceil(2 * self.width.high)
        around = F.pad(torch.cat([picture, noise], dim=1), (reach,) * 4, mode="replicate")
        total, weights = torch.zeros_like(noise), torch.zeros_like(noise[:, :1])
        for y, x in product(range(2 * reach + 1), repeat=2):
            samples, added = around[..., y : y + rows, x : x + columns].chunk(2, dim=1)
            differs = (samples - picture).square().mean(dim=1, keepdim=True) / alike
            far = ((y - reach) ** 2 + (x - reach) ** 2) / near
            weight = torch.exp(-differs - far)
            total += weight * added
            weights += weight
        reduced = total / weights
        # Of skewed noise it finds the mode: the brightness of the picture stays.
        reduced += (noise - reduced).mean(dim=(2, 3), keepdim=True)
        return mean + kept * noise + (1 - kept) * reduced, mean


@dataclass(frozen=True)
class Clip:
    """What a file of 8 bits keeps: samples on 0..1, rounded to 255 steps."""

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return (clean.clamp(0, 1) * 255).round() / 255

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        # Of many pixels, so that it does not tell the noise of the one it is for.
        variance = window_mean((picture - mean) ** 2, 15, 15)
        return self.sample(picture, generator), mean_clipped(mean, variance)


@dataclass(frozen=True)
class JPEG:
    """Rounding to 8 bits and JPEG compression at QUALITY; for colour or gray pictures."""

    quality: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        quality = self.quality.draw(clean, generator).flatten().tolist()
        pictures = (clean.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
        coded = [_jpeg(p.numpy(), round(q)) for p, q in zip(pictures, quality, strict=True)]
        decoded = torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2)
        return decoded.to(clean.device, clean.dtype) / 255


def _jpeg(samples: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    gray = samples.shape[-1] == 1
    buffer = io.BytesIO()
    Image.fromarray(samples[..., 0] if gray else samples).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer))
    return decoded[..., None] if gray else decoded
