"""Noise of a camera: of its sensor, after demosaicing and development."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Range, blurred, developed, mean_clipped, normal

_COLOR_BLUR = 3.0

# Color matrices of four cameras, from the XYZ space to the sensor's, and from sRGB to XYZ.
_XYZ_TO_SENSOR = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),
)
_SRGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)

_CROSS = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))
_PLUS = ((0.0, 0.25, 0.0), (0.25, 1.0, 0.25), (0.0, 0.25, 0.0))


@dataclass(frozen=True)
class Camera:
    """Sensor noise as it looks after a camera's own processing.

    sRGB -> linear light -> the sensor's own colors, white-balance gains undone -> shot and read
    noise on a Bayer mosaic -> demosaicing of the noise -> gains and color matrix -> sRGB.
    The ranges of shot and read noise and the color matrices are those of Brooks et al.,
    "Unprocessing images for learned raw denoising", CVPR 2019, section 3.1 and appendix; each
    picture gets a random mean of the four matrices. Gray pictures skip colors and mosaic.

    SMOOTHED, 0 to 1, is how much the camera's own noise reduction leaves of coarse noise only: it
    blurs the noise by up to 1 pixel in brightness and up to 3 pixels in color.

    EDGES, 0 to 1, is how far demosaicing follows the edges that it sees in the noisy samples
    (Hamilton and Adams, US patent 5629734, 1997), as that of cameras does, and not straight lines
    alone; the samples of the sensor then end at black and at white. A network that has only seen
    linear demosaicing learns to undo it, and leaves much of the noise of real cameras.
    """

    shot: Range = Range(1e-4, 0.03, logarithmic=True)
    smoothed: Range = Range(0.0, 0.0)
    edges: Range = Range(0.0, 0.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return self.sample_and_mean(clean, clean, generator)[0]

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        clean = picture
        count, channels = clean.shape[:2]
        linear = clean.clamp(0, 1) ** 2.2
        shot = self.shot.draw(clean, generator)
        spread = torch.randn(count, 1, 1, 1, generator=generator, device=clean.device)
        read = torch.exp(2.18 * shot.log() + 1.2 + 0.26 * spread)
        if channels == 3:
            gains = torch.ones(count, channels, 1, 1, device=clean.device)
            u = torch.rand(count, 2, 1, 1, generator=generator, device=clean.device)
            gains[:, ::2] = 1.2 + 1.2 * u
            to_sensor = _color_matrices(count, generator)
            raw = _recolor(linear, to_sensor).clamp(min=0) / gains
        else:
            raw = linear
        variance = shot * raw + read
        noise = variance.sqrt() * normal(clean, generator)
        if channels == 3:
            to_srgb = torch.linalg.inv(to_sensor)
            sites = _bayer(clean, generator)
            if self.edges.high:
                edges = self.edges.draw(clean, generator)
                seen, expected = (raw + noise).clamp(0, 1), mean_clipped(raw, variance)
                linear = linear + _recolor(gains * (expected - raw), to_srgb)
                followed = _demosaic_along_edges(gains * seen, sites)
                followed = followed - _demosaic_along_edges(gains * expected, sites)
                noise = (1 - edges) * gains * _demosaic(seen - expected, sites) + edges * followed
            else:
                noise = gains * _demosaic(noise, sites)
            noise = _recolor(noise, to_srgb)
            variance = _recolor(gains**2 * variance, to_srgb**2)  # but for what demosaicing does
        noisy = developed(linear + noise, 1 / 2.2)
        variance = variance * (noise.square().mean((2, 3), True) / variance.mean((2, 3), True))
        mean = mean + mean_clipped(linear, variance, 1 / 2.2) - clean
        if not self.smoothed.high:
            return noisy, mean
        smoothed = self.smoothed.draw(clean, generator)
        gray = (noisy - clean).mean(dim=1, keepdim=True)
        color = noisy - clean - gray
        left = blurred(gray, smoothed) + blurred(color, _COLOR_BLUR * smoothed)
        return (clean + left).clamp(0, 1), mean


def _color_matrices(count: int, generator: torch.Generator) -> Tensor:
    """Matrices (N, 3, 3) from linear sRGB to the colors of some sensor; white stays white."""
    device = generator.device
    weights = torch.rand(count, len(_XYZ_TO_SENSOR), generator=generator, device=device)
    weights = weights / weights.sum(dim=1, keepdim=True)
    mean = torch.einsum("nk,kij->nij", weights, torch.tensor(_XYZ_TO_SENSOR, device=device))
    matrix = mean @ torch.tensor(_SRGB_TO_XYZ, device=device)
    return matrix / matrix.sum(dim=2, keepdim=True)


def _recolor(pictures: Tensor, matrices: Tensor) -> Tensor:
    return torch.einsum("nij,njyx->niyx", matrices.to(pictures.dtype), pictures)


def _bayer(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Which channel (N, 3, Y, X) each pixel of a sensor sees, as 0 and 1.

    The mosaic of each picture begins with one of the four pixels of RGGB, since cameras differ and
    pictures are cropped and turned.
    """
    count, _, rows, columns = pictures.shape
    device = pictures.device
    first = torch.randint(2, (2, count, 1, 1), generator=generator, device=device)
    y = (torch.arange(rows, device=device).reshape(-1, 1) + first[0]) % 2
    x = (torch.arange(columns, device=device) + first[1]) % 2
    return torch.stack([(y == 0) & (x == 0), y != x, (y == 1) & (x == 1)], dim=1).to(pictures.dtype)


def _filtered(pictures: Tensor, *kernels: Sequence[Sequence[float]]) -> Tensor:
    """Each channel of `pictures` under its kernel, or all under one."""
    channels = pictures.shape[1]
    weight = pictures.new_tensor(kernels).unsqueeze(1).expand(channels, 1, -1, -1)
    rows, columns = weight.shape[-2] // 2, weight.shape[-1] // 2
    padded = F.pad(pictures, (columns, columns, rows, rows), mode="reflect")
    return F.conv2d(padded, weight.contiguous(), groups=channels)


def _demosaic(noise: Tensor, sites: Tensor) -> Tensor:
    """What demosaicing of a Bayer mosaic makes of noise (N, 3, Y, X).

    Green is interpolated linearly, and so are the differences of red and blue from it, as is usual:
    the noise of green goes into all channels.
    """
    green = _filtered(noise * sites, _CROSS, _PLUS, _CROSS)[:, 1:2]
    differences = _filtered((noise - green) * sites, _CROSS, _PLUS, _CROSS)
    return green + differences * noise.new_tensor([1, 0, 1]).reshape(3, 1, 1)


def _demosaic_along_edges(picture: Tensor, sites: Tensor) -> Tensor:
    """`picture` (N, 3, Y, X) as demosaicing shows it that follows edges: Hamilton and Adams.

    Green is interpolated along the direction in which the samples change less, with the second
    derivative of the other color; the differences of red and blue from it linearly.
    """
    samples = (picture * sites).sum(dim=1, keepdim=True)
    across, first, second = (-0.25, 0.5, 0.5, 0.5, -0.25), (0, 1, 0, -1, 0), (-1, 0, 2, 0, -1)
    ways = []
    for turn in (lambda line: [line], lambda line: [[value] for value in line]):
        change = _filtered(samples, turn(first)).abs() + _filtered(samples, turn(second)).abs()
        ways.append((_filtered(samples, turn(across)), change))
    (level, change_along), (upright, change_up) = ways
    green = torch.where(change_along < change_up, level, upright)
    green = torch.where(change_along == change_up, (level + upright) / 2, green)
    green = torch.where(sites[:, 1:2] > 0, samples, green)
    differences = _filtered((samples - green) * sites, _CROSS)
    return green + differences * picture.new_tensor([1, 0, 1]).reshape(3, 1, 1)
