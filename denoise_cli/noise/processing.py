"""What lenses and files do to pictures, before noise and after it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
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
