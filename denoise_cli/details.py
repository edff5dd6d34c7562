"""Details that a denoiser took away with the noise, given back.

An ideal denoiser f of y = x + n, with noise n of variance v, removes less than all the noise, so
that the energy R of what it removed, y - f(y), is below v. Where R is above v, details are in it.
If a share k of it is given back, the error is (1 - k)^2 |f - x|^2 + k^2 v + 2 k (1 - k) <n, f - x>,
and R = |f - x|^2 + v - 2 <n, f - x>: the error is least at k = 1 - (v - <n, f - x>) / R. The last
product, the noise that is left, is not known; without it too little is given back, not too much.
Nor is v of noise that is not white: there it is what is usually removed at that brightness. And
noise may be stronger in some places than v says: what is removed there is no detail, and looks like
the rest of the noise.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import noise_level
from .noise_level import NoiseLevel
from .transforms import is_gray
from .windows import square_mean, square_variance

WINDOW, WIDE_WINDOW = 17, 33
# Chosen on training photos under white noise, where next to nothing is to be given back: what the
# energy of a window is off by chance.
MARGIN = 0.15
PREDICTED_BEST = 0.1  # of the windows
# What is usually removed: the median of the windows of like brightness, of which there are as many
# groups, and at least the upper quartile of all. Three times that is more than noise varies by at
# one brightness: of held-out photos under fourteen kinds of noise none lost more than 0.005 dB, one
# gained 2.9, and with a fine mesh in a tenth of the picture under weak camera noise they gained 4.
BRIGHTNESSES, USUAL, USUAL_OF_ALL, TIMES_USUAL = 8, 0.5, 0.75, 3.0
# What was removed may be no detail, but the same noise, only stronger there: where its neighbors
# are as alike as they usually are. By chance their correlations are off by 0.2 at most.
LAGS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
LIKE_NOISE, UNLIKE_NOISE = 0.2, 0.4
# Fur is like noise as well, but neither flat without it, nor is so much of it removed. Noise is
# uneven where in this share of a picture so many times its variance was removed, from what is left
# flat (its variance at most that of what was removed) or from any place. On held-out photos under
# even noise of sigma 10 and 25 the share is 0.
UNEVEN, UNEVEN_ANYWHERE, UNEVEN_PART, FLAT = 1.5, 3.0, 0.002, 1.0
# What is filled in misses far more of fur, even of what is left flat; not of what is flatter still.
FLAT_FILLED = 0.2
NO_ENERGY = 1e-12  # below, there is none
ALONE, STANDS_OUT = 6.0, 2.0  # an impulse: in deviations of the noise, and in what is beside it


def give_back(noisy: Tensor, denoised: Tensor, variance: float) -> Tensor:
    """`denoised` with the details that are in `noisy` alone; all of them (N, C, Y, X).

    `variance` is that of the noise of `noisy`, which is white. Where samples are clipped, and where
    an impulse was removed, nothing is given back; nor where it is white noise of more than that
    variance that was removed, as in the corners of a photo whose vignetting was corrected.
    """
    removed = noisy - denoised
    removed = removed * ~_impulses(removed, variance)
    share = _share(removed.square(), WINDOW, (1 + MARGIN) * variance)
    if bool(share.any()):
        times = _energy(removed, WIDE_WINDOW) / max(variance, NO_ENERGY)
        share = share * _detail(removed, denoised, times)
    return denoised + share * noise_level.trusted(noisy, NoiseLevel(read=variance)) * removed


def give_back_unusual(noisy: Tensor, denoised: Tensor) -> Tensor:
    """`denoised` with what was removed of a few places, far more than elsewhere (N, C, Y, X).

    For noise of any kind, of unknown strength, that a denoiser removes wherever it is: the mesh of
    a chair's back may pass for the noise of a camera, but is not in the rest of the picture. It is
    found by the other pixels of each picture, so that one of texture alone stays as it is, and so
    do impulses.
    """
    return torch.cat(list(map(_unusual_back, noisy.split(1), denoised.split(1))))


def stronger(
    noisy: Tensor, denoised: Tensor, variance: Tensor, *, is_filled: bool = False
) -> Tensor:
    """How many times `variance` white noise has around each pixel, at least once (N, 1, Y, X).

    By what was removed from `noisy` (N, C, Y, X), where that is like white noise, or by what was
    missed if `denoised` was filled in.
    """
    removed = noisy - denoised
    expected = square_mean(variance.mean(dim=1, keepdim=True), WIDE_WINDOW)
    times = _energy(removed, WIDE_WINDOW) / expected.clamp(min=NO_ENERGY)
    detail = _detail(removed, denoised, times, is_filled=is_filled)
    return 1 + (times / (1 + MARGIN) - 1).clamp(min=0) * (1 - detail)


def weigh_in(noisy: Tensor, filled: Tensor, variance: float) -> Tensor:
    """The mean of `filled` and `noisy` (N, C, Y, X), each weighted with the other's squared error.

    `filled` was predicted for each pixel from the others alone, so that the noise of the pixel,
    white and of this `variance`, is independent of the error there: <n, f - x> is 0, and the share
    of `give_back` is right as it is. It is the mean of Bayes' posterior in Laine et al.,
    "High-quality self-supervised deep image denoising", NeurIPS 2019, section 3, with the error of
    the prediction taken from the windows around a pixel instead of from the network. Clipped
    samples are not weighed in, and where the noise is stronger than that, less of them is.
    """
    missed = noisy - filled
    samples = WIDE_WINDOW**2 * (1 if is_gray(noisy) else noisy.shape[1])
    by_chance = (2 / samples) ** 0.5  # the standard error of the energy of white noise
    energy = missed.square().mean(dim=1, keepdim=True)
    noise = variance * stronger(noisy, filled, torch.full_like(noisy, variance), is_filled=True)
    share = _share(energy, WIDE_WINDOW, (1 + by_chance) * noise)
    return filled + share * noise_level.trusted(noisy, NoiseLevel(read=variance)) * missed


def at_most_missed(noisy: Tensor, filled: Tensor, variance: float) -> float:
    """The `variance` estimated for white noise, or less, where `filled` misses `noisy` by less.

    By `filled` as in `weigh_in`: the error of the prediction adds to the noise, least in the
    windows that are predicted best. Fine texture may pass for noise in an estimate, not in that.
    """
    missed = (noisy - filled).square().mean(dim=1, keepdim=True)
    known = noise_level.all_trusted(noisy, NoiseLevel(read=variance), WIDE_WINDOW)
    if not bool(known.any()):
        return variance
    return min(variance, float(square_mean(missed, WIDE_WINDOW)[known].quantile(PREDICTED_BEST)))


def _unusual_back(noisy: Tensor, denoised: Tensor) -> Tensor:
    removed = noisy - denoised
    usual = _usual(removed, denoised)
    removed = removed * ~_impulses(removed, usual)
    energy = removed.square().mean(dim=1, keepdim=True)
    share = _share(energy, WINDOW, TIMES_USUAL * usual)
    if not bool(share.any()):
        return denoised
    correlations = _correlations(removed)
    of_noise = correlations[..., share[0, 0] == 0].median(dim=-1).values[..., None, None]
    return denoised + share * _unlike(correlations, of_noise) * removed


def _energy(removed: Tensor, side: int) -> Tensor:
    """The mean square of what was removed from the window around each pixel (N, 1, Y, X)."""
    return square_mean(removed.square().mean(dim=1, keepdim=True), side)


def _detail(removed: Tensor, denoised: Tensor, times: Tensor, *, is_filled: bool = False) -> Tensor:
    """How surely what was removed is no stronger white noise, from 0 to 1 (N, 1, Y, X).

    1 in all places unless from some many `times` the expected was removed, and it is like noise.
    """
    if not bool((times > UNEVEN).any()):
        return torch.ones_like(times)
    unlike = _unlike(_correlations(removed))
    texture = square_variance(denoised, WIDE_WINDOW).mean(dim=1, keepdim=True)
    flat = texture < (FLAT_FILLED if is_filled else FLAT) * _energy(removed, WIDE_WINDOW)
    uneven = (times > UNEVEN) & flat
    if not is_filled:
        uneven |= times > UNEVEN_ANYWHERE
    uneven &= unlike < 0.5
    return unlike if float(uneven.float().mean()) > UNEVEN_PART else torch.ones_like(times)


def _correlations(removed: Tensor) -> Tensor:
    """Of the neighbors at all `LAGS`, in the window around each pixel (lags, N, 1, Y, X)."""
    energy = _energy(removed, WINDOW).clamp(min=NO_ENERGY)
    products = [removed * removed.roll(lag, dims=(-2, -1)) for lag in LAGS]
    means = [square_mean(each.mean(dim=1, keepdim=True), WINDOW) for each in products]
    return torch.stack(means) / energy


def _unlike(correlations: Tensor, of_noise: Tensor | float = 0.0) -> Tensor:
    """How surely these correlations are not those `of_noise`, from 0 to 1 (N, 1, Y, X).

    Those of white noise are 0.
    """
    most = (correlations - of_noise).abs().amax(dim=0)
    sure = ((most - LIKE_NOISE) / (UNLIKE_NOISE - LIKE_NOISE)).clamp(0, 1)
    return square_mean(sure, WINDOW)


def _usual(removed: Tensor, denoised: Tensor) -> Tensor:
    """The energy usually removed of windows as bright as those around each pixel (1, 1, Y, X).

    Noise grows at most as the brightness does: few bright spots are not like the dark around them.
    """
    energy = _energy(removed, WINDOW)
    brightness = square_mean(denoised.mean(dim=1, keepdim=True), WINDOW).flatten()
    energies = energy.flatten()
    usual = torch.empty_like(energies)
    for group in brightness.argsort(stable=True).chunk(BRIGHTNESSES):
        middle = _quantile(brightness[group], 0.5).clamp(min=1e-6)
        brighter = (brightness[group] / middle).clamp(min=1)
        usual[group] = _quantile(energies[group], USUAL) * brighter.square()
    least = _quantile(energies, USUAL_OF_ALL)
    return square_mean(usual.clamp(min=least).view_as(energy), WINDOW)


def _quantile(values: Tensor, share: float) -> Tensor:
    """As `torch.quantile`, which takes no more than 16 million, of many."""
    return values.kthvalue(math.ceil(share * len(values))).values


def _share(energy: Tensor, side: int, noise: Tensor | float) -> Tensor:
    """How much of the mean of `energy` in windows of this `side` is not that of `noise`.

    Nothing where there is none.
    """
    mean = square_mean(energy, side)
    return (mean - noise).clamp(min=0) / mean.clamp(min=NO_ENERGY)


def _impulses(removed: Tensor, variance: Tensor | float) -> Tensor:
    """Where a single sample that stands out of its neighbors was removed."""
    size = removed.abs()
    wide = F.pad(size, (1, 1, 1, 1))
    beside = torch.maximum(wide[..., 1:-1, :-2], wide[..., 1:-1, 2:])
    rows = F.max_pool2d(wide, (1, 3), 1)
    around = torch.maximum(beside, torch.maximum(rows[..., :-2, :], rows[..., 2:, :]))
    return (size > ALONE * variance**0.5) & (size > STANDS_OUT * around)
