"""What kind of noise a picture has: independent between pixels, even, white; and its level then."""

from __future__ import annotations

import torch
from torch import Tensor

from . import lanes
from .noise_level import (
    DARKEST,
    FEWEST_OF_A_GROUP,
    PATCH,
    NoiseLevel,
    all_trusted,
    estimate,
    estimate_poisson_gaussian,
    line,
    patch_variance,
    patches_of,
)
from .stripes import has_stripes
from .transforms import beside_and_below, block_energies, is_gray, opponent
from .windows import square_mean, square_variance

# Limits of `is_correlated` and `is_uniform`: between what photos under white noise of sigma 10
# to 70 show (at most 0.11 and 1.34) and those under correlated (0.29) or Poisson noise (2.02).
MOST_CORRELATED, MOST_UNEVEN, FLATTEST = 0.2, 1.5, 0.1
# Of `removed_level`: the share of the windows of this side that surely hold noise alone.
NOISE_ALONE, ALONE_WINDOW = 0.25, 17
# Of `falls_with_light`: under even noise, clipped or not, photos show at most 1.15.
MOST_FALLING = 1.25
# Of the energy of the middle frequencies the highest have 0.73 and more in white noise, and 0.53 at
# most in the colors of noise that went through a JPEG.
LEAST_HIGH = 0.65
# And of the median of these frequencies the strongest has 2.2 times as much at most, even in
# textured photos; the pattern of a mosaic whose greens differ has 27 times and more.
STRONGEST = 3.0
STEEPEST = 2.0  # of the line: photos under white noise have at most 1.7, under photon noise 2.48


def is_correlated(pictures: Tensor) -> bool:
    """Whether the noise of `pictures` (N, C, Y, X) is correlated from pixel to pixel.

    As in pictures that were scaled, demosaiced or compressed. Told by the flattest patches of the
    dark, the middle and the bright thirds: of all thirds, neighbors there must be alike, since
    faint texture is too.
    """
    found = list(lanes.each(_least_correlation, pictures.transpose(0, 1)))
    return sum(found) / len(found) > MOST_CORRELATED


def _least_correlation(channel: Tensor) -> float:
    """That of the third of the brightness of (N, Y, X) where it is least."""
    return min(map(_correlation, _thirds(patches_of(channel))))


def is_uniform(pictures: Tensor) -> bool:
    """Whether the noise of `pictures` (N, C, Y, X) is no stronger in bright than in dark places.

    It grows with the light, if it changes; dark places that seem noisier, as the strokes of a page,
    are only textured. By the dark and the bright thirds, and by the line of
    `noise_level.line`, which sees the few bright places of a micrograph.
    """
    ratios = list(lanes.each(_bright_over_dark, pictures.transpose(0, 1)))
    if sum(ratios) / len(ratios) >= MOST_UNEVEN:
        return False
    found = line(pictures)
    if found is None:
        return True
    level, brightness = found
    fitted = level.variance(brightness)
    return float(fitted.max() / fitted.min()) < STEEPEST


def _bright_over_dark(channel: Tensor) -> float:
    """The variance of the noise in the bright over that in the dark third of (N, Y, X)."""
    dark, _, bright = map(patch_variance, _thirds(patches_of(channel)))
    return max(bright, DARKEST**2) / max(dark, DARKEST**2)


def removed_level(noisy: Tensor, part: Tensor, denoised: Tensor) -> NoiseLevel | None:
    """The level of the noise of `noisy` (N, C, Y, X), which is independent between pixels.

    `part` is a part of it, and `denoised` what a network makes of that: noise that is the same at
    all brightnesses is at least what was removed from the flattest quarter. None if it is not, and
    does not grow with the light as `estimate_poisson_gaussian` knows it.
    """
    if not is_uniform(noisy):
        return estimate_poisson_gaussian(noisy)
    if falls_with_light(part, denoised):
        return None
    energy = square_mean((part - denoised).square(), ALONE_WINDOW)
    return NoiseLevel(read=max(estimate(noisy).read, float(energy.quantile(NOISE_ALONE))))


def falls_with_light(noisy: Tensor, denoised: Tensor) -> bool:
    """Whether noise is stronger in dark places, as of scanned film and of brightened photos.

    By what was removed from `noisy` (N, C, Y, X) where `denoised` is flat, and nothing is clipped.
    """
    removed = (noisy - denoised).square().mean(dim=1, keepdim=True)
    energy = square_mean(removed, ALONE_WINDOW)
    light = square_mean(denoised.mean(dim=1, keepdim=True), ALONE_WINDOW)
    texture = square_variance(denoised, ALONE_WINDOW).mean(dim=1, keepdim=True)
    level = NoiseLevel(read=float(energy.median()))
    where = (texture < energy) & all_trusted(noisy, level, ALONE_WINDOW)
    found = energy[where]
    if len(found) < 3 * FEWEST_OF_A_GROUP:
        return False
    thirds = found[light[where].argsort()].chunk(3)
    dark, _, bright = (float(third.median()) for third in thirds)
    return dark > MOST_FALLING * bright


def is_white(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> bool:
    """Whether noise of `level` is as strong in all directions, colors and frequencies.

    By the pictures `noisy` (N, C, Y, X), and what was removed from them.
    """
    return (
        not has_stripes(noisy, denoised)
        and has_high_frequencies(noisy, denoised, level)
        and not has_pattern(noisy, denoised, level)
    )


def has_high_frequencies(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> bool:
    """Whether no color of what was removed (N, C, Y, X) lacks the highest frequencies.

    Noise that went through a JPEG does, in the colors first. Details may be among it: it is the
    median of the blocks that counts.
    """
    energy = _spectra(noisy, denoised, level)
    order = _order(energy)
    high, middle = (
        energy[..., chosen].mean(dim=-1).median(dim=1).values
        for chosen in (order > PATCH, (order >= PATCH // 2) & (order < PATCH - 1))
    )
    return bool((high > LEAST_HIGH * middle).all())


def has_pattern(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> bool:
    """Whether one frequency of what was removed (N, C, Y, X) stands out, as of a grid."""
    energy = _spectra(noisy, denoised, level)
    fine = energy[..., _order(energy) >= PATCH // 2].median(dim=1).values
    return bool((fine.amax(dim=1) > STRONGEST * fine.median(dim=1).values).any())


def _order(energy: Tensor) -> Tensor:
    """How fine each frequency (PATCH, PATCH) is: the sum of both of its numbers."""
    order = torch.arange(energy.shape[-1], device=energy.device)
    return order[:, None] + order


def _spectra(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> Tensor:
    """The `_block_energies` of what was removed from `noisy` (N, C, Y, X), on its `level`."""
    noise = (noisy - denoised) / level.variance(denoised).sqrt()
    return _block_energies(noise.mean(dim=1, keepdim=True) if is_gray(noisy) else noise)


def _block_energies(pictures: Tensor) -> Tensor:
    """The energy of each frequency (C, blocks, PATCH, PATCH) in blocks of (N, C, Y, X).

    Of three channels that of the brightness and of two differences of colors.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        colors = opponent(pictures.shape[1]).to(pictures.device)
        pictures = torch.einsum("ij,njyx->niyx", colors, pictures.float())
    return block_energies(pictures, PATCH, PATCH).transpose(0, 1).flatten(1, 2)


def _thirds(patches: Tensor) -> tuple[Tensor, ...]:
    """The dark, the middle and the bright ones of `patches` (K, pixels)."""
    order = patches.mean(dim=1).argsort()
    return tuple(patches[part] for part in order.tensor_split(3))


def _correlation(patches: Tensor) -> float:
    """The correlation of neighbors in the flattest of `patches` (K, side * side)."""
    side = round(patches.shape[1] ** 0.5)
    centered = patches - patches.mean(dim=1, keepdim=True)
    energy = centered.square().mean(dim=1)
    count = max(1, round(FLATTEST * len(energy)))
    flat = centered[energy.argsort()[:count]].reshape(-1, side, side)
    energy = flat.square().mean().clamp(min=DARKEST**2)
    across, down = beside_and_below(flat)
    return float(across / energy + down / energy) / 2
