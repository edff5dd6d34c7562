"""How strong the noise of a picture is: told by a specification, or estimated from the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from . import lanes
from .errors import UsageError
from .noise import Gaussian, Noise, Poisson, PoissonGaussian, Range, parse
from .transforms import distinct_planes
from .windows import square_mean, window_mean

PATCH = 8  # side of the patches whose covariance is looked at, in pixels
MOST_PATCHES, FEWEST_PATCHES = 50_000, 500
REFINEMENTS = 4
WEAK_GRADIENTS = 2 * 1.5  # 2 is the mean under noise alone; its spread in a patch is 0.27
DARKEST = 1e-6  # least variance that is told from none
# Of the squares, the darkest of which has a variance yet: smaller ones are darkest by their noise.
DARKEST_SIDE = 17
# The line of `estimate_poisson_gaussian`: the groups of patches, by the shares that are darker (few
# are bright in a micrograph), and the share of a patch that may be at an end of the range.
GROUPS, MOST_CLIPPED = (0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0), 0.1
FEWEST_OF_A_GROUP = 200
FEWEST_COUNTS = 1.0  # below, the Anscombe transform does not bring the noise to variance 1
# Shares that are `trusted`: of a picture, for its level to be of use, and of windows that all are.
LEAST_TRUSTED, ALL_TRUSTED = 0.25, 0.99


@dataclass(frozen=True)
class NoiseLevel:
    """Noise of variance ``shot * x + read`` at the brightness x; shot 0 is white Gaussian noise.

    Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting", TIP 2008, eq. 1. As
    there, `read` is below 0 where black is not recorded as 0.
    """

    shot: float = 0.0
    read: float = 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation in the middle of the range 0..1."""
        return max(0.5 * self.shot + self.read, 0.0) ** 0.5

    def variance(self, pictures: Tensor) -> Tensor:
        """The variance of the noise at each pixel, taken to be as bright as it is recorded."""
        return (self.shot * pictures + self.read).clamp(min=DARKEST)

    def stronger(self, times: float) -> NoiseLevel:
        """That of noise of so many times the variance."""
        return NoiseLevel(shot=times * self.shot, read=times * self.read)

    def standardized(self, mean: Sequence[float], std: Sequence[float]) -> NoiseLevel:
        """The same noise for pictures ``(x - mean) / std``; of several channels the average."""
        m, s = sum(mean) / len(mean), sum(std) / len(std)
        return NoiseLevel(self.shot / s, (self.shot * m + self.read) / s**2)

    def sample(
        self, clean: Tensor, generator: torch.Generator, times: Tensor | float = 1.0
    ) -> Tensor:
        """Noisy pictures for `clean` (N, C, Y, X), in Gaussian approximation.

        The variance is so many `times` that of the level. Gray ones get the same noise in all
        channels.
        """
        drawn = distinct_planes(clean)
        noise = torch.randn(drawn.shape, generator=generator, device=clean.device)
        return clean + ((self.shot * clean + self.read).clamp(min=0) * times).sqrt() * noise

    def stabilize(self, pictures: Tensor) -> Tensor:
        """Transform `pictures` so that the noise has variance 1 at every brightness.

        The generalized Anscombe transform (Starck, Murtagh and Bijaoui, "Image processing and data
        analysis", 1998); for Gaussian noise a division by sigma.
        """
        if self.shot == 0:
            return pictures / max(self.read, DARKEST) ** 0.5
        return 2 / self.shot * (self.shot * pictures + self._offset()).clamp(min=DARKEST).sqrt()

    def unstabilize(self, stable: Tensor) -> Tensor:
        """The algebraic inverse of `stabilize`."""
        if self.shot == 0:
            return stable * max(self.read, DARKEST) ** 0.5
        return ((stable.clamp(min=0) * self.shot / 2) ** 2 - self._offset()) / self.shot

    def unstabilize_mean(self, stable: Tensor) -> Tensor:
        """The brightness whose noisy, stabilized pictures have `stable` as their mean.

        A denoised `stable` is such a mean, and the algebraic inverse of it is too dark. The closed
        form of the exact unbiased inverse: Makitalo and Foi, "Optimal inversion of the generalized
        Anscombe transformation for Poisson-Gaussian noise", TIP 2013, eq. 10; after it, nothing is
        darker than black.
        """
        if self.shot == 0:
            return self.unstabilize(stable)
        stable = stable.clamp(min=2 * 0.375**0.5)  # that of no light at all
        root = 1.5**0.5
        counts = stable.square() / 4 + root / 4 / stable - 11 / 8 / stable.square()
        counts = counts + 5 / 8 * root / stable**3 - 1 / 8
        return self.shot * counts - self.read / self.shot

    def _offset(self) -> float:
        return 0.375 * self.shot**2 + self.read


def known(spec: str) -> NoiseLevel | None:
    """The level of the noise `spec` names on the scale 0..1; None if it is no function of x.

    Raises
    ------
    UsageError
        If the specification is wrong or leaves a range open.
    """
    model: Noise = parse(spec)
    if isinstance(model, Gaussian):
        return NoiseLevel(read=(_one(model.sigma, spec) / 255) ** 2)
    if isinstance(model, Poisson):
        return NoiseLevel(shot=1 / max(_one(model.peak, spec), DARKEST))
    if isinstance(model, PoissonGaussian):
        return NoiseLevel(_one(model.shot, spec), _one(model.read, spec))
    return None


def _one(value: Range, spec: str) -> float:
    if value.low != value.high:
        raise UsageError(f"noise {spec!r} is a range; give the one value of this picture")
    return value.low


def estimate(pictures: Tensor) -> NoiseLevel:
    """The level of white Gaussian noise in `pictures` (N, C, Y, X) of any scale.

    Chen, Zhu and Heng, "An efficient statistical method for image noise level estimation", ICCV
    2015, algorithm 1, for each channel: textures fill a few directions of the space of patches,
    noise fills all alike. The eigenvalues of the covariance are sorted, and the largest are left
    out until the mean of the others is their median. Differs from the paper: it is repeated on the
    patches whose gradients could be noise of the level found, as in Liu, Tanaka and Okutomi,
    "Single-image noise level estimation for blind denoising", TIP 2013, because fine texture passes
    for weak noise; and at most 100,000 patches are looked at, evenly spread.
    """
    variances = list(lanes.each(_variance, pictures.transpose(0, 1)))
    return NoiseLevel(read=sum(variances) / len(variances))


def estimate_poisson_gaussian(pictures: Tensor) -> NoiseLevel | None:
    """The level of noise that grows with the light in `pictures` (N, C, Y, X) of any scale.

    The line through the variances of patches of like brightness, each found as in `estimate`
    (after Foi et al., 2008, section III, who take flat parts of the picture for that). Patches
    that are clipped are left out, and the variance is 0 nowhere but below the darkest place. None
    if the patches that are left are not enough for a line, or the noise does not grow with the
    light.
    """
    found = line(pictures)
    return found[0] if found is not None and found[0].shot > 0 else None


def trusted(pictures: Tensor, level: NoiseLevel, size: int = 5) -> Tensor:
    """Where in `pictures` (N, C, Y, X) the noise is as `level` says: 1, elsewhere 0; (N, 1, Y, X).

    It is not where samples are clipped, and not where the mean count of photons, of the squares of
    `size` pixels around, is below 1.
    """
    ends = (pictures <= pictures.amin()) | (pictures >= pictures.amax())
    bad = window_mean(ends.to(pictures.dtype), size, size) > MOST_CLIPPED
    if level.shot:
        light = level.shot * window_mean(pictures, size, size) + level.read
        bad = bad | (light / max(level.shot, DARKEST) ** 2 < FEWEST_COUNTS)
    return 1 - bad.any(dim=1, keepdim=True).to(pictures.dtype)


def all_trusted(pictures: Tensor, level: NoiseLevel, side: int) -> Tensor:
    """Around which pixels squares of this `side` are `trusted`, all but a few (N, 1, Y, X)."""
    return square_mean(trusted(pictures, level), side) > ALL_TRUSTED


def line(pictures: Tensor) -> tuple[NoiseLevel, Tensor] | None:
    """The line through the variances of patches of like brightness, and these brightnesses.

    None if the patches of `pictures` (N, C, Y, X) that are not clipped are not enough for one.
    """
    points = list(chain.from_iterable(lanes.each(_points, pictures.transpose(0, 1))))
    if len(points) < 2:
        return None
    darkest = float(square_mean(pictures, DARKEST_SIDE).amin())
    brightness, variance, count = torch.tensor(points, dtype=torch.float64).T
    return _line(brightness, variance, count, darkest), brightness


def _points(channel: Tensor) -> list[tuple[float, float, int]]:
    """Brightness, noise variance and number of patches of `channel` (N, Y, X), from dark to bright.

    One for each of the groups that `GROUPS` delimits. The brightness is that of the patches whose
    variance it is: under photon noise the darker ones of a group have the weaker gradients.
    """
    patches = patches_of(channel)
    patches = patches[_is_unclipped(patches, channel)]
    order = patches.mean(dim=1).argsort()
    points = []
    for first, last in pairwise(int(share * len(order)) for share in GROUPS):
        if last - first >= FEWEST_OF_A_GROUP:
            flat, variance = _flat_patches(patches[order[first:last]])
            points.append((float(flat.mean()), variance, len(flat)))
    return points


def _line(brightness: Tensor, variance: Tensor, count: Tensor, darkest: float) -> NoiseLevel:
    """The line through variances, whose errors are in proportion to themselves.

    It never falls, and is not below 0 at the brightness `darkest`.
    """
    fitted = variance
    shot = read = 0.0
    for _ in range(1 + REFINEMENTS):  # the weights by the line, once there is one
        weight = count.sqrt() / fitted.clamp(min=DARKEST**2).square()
        weight = weight / weight.sum()
        x, v = (weight * brightness).sum(), (weight * variance).sum()
        spread = (weight * (brightness - x).square()).sum()
        slope = (weight * (brightness - x) * (variance - v)).sum() / spread.clamp(min=1e-12)
        shot = max(float(slope), 0.0)
        read = float(v) - shot * float(x)
        if shot * darkest + read < 0:
            above = brightness - darkest
            shot = float((weight * above * variance).sum() / (weight * above.square()).sum())
            read = -shot * darkest
        fitted = (shot * brightness + read).clamp(min=1e-3 * variance)
    return NoiseLevel(shot, read)


def _variance(channel: Tensor) -> float:
    """The noise variance in `channel` (N, Y, X), of patches that are not clipped if there are."""
    patches = patches_of(channel)
    unclipped = patches[_is_unclipped(patches, channel)]
    return patch_variance(unclipped if len(unclipped) >= FEWEST_PATCHES else patches)


def patches_of(channel: Tensor) -> Tensor:
    """Patches (K, side * side) of `channel` (N, Y, X), evenly spread.

    Without blank ones, as of the margin of a page, of which nothing can be told; if there are
    others.
    """
    count, rows, columns = channel.shape
    side = min(PATCH, rows, columns)
    stride = max(1, round((count * rows * columns / MOST_PATCHES) ** 0.5))
    patches = F.unfold(channel[:, None].float(), side, stride=stride)
    patches = patches.transpose(1, 2).flatten(0, 1)
    blank = (patches == patches[:, :1]).all(dim=1)
    return patches if bool(blank.all()) else patches[~blank]


def _is_unclipped(patches: Tensor, channel: Tensor) -> Tensor:
    """Which of `patches` (K, pixels) have few samples at an end of the range of `channel`."""
    ends = (patches <= channel.min()) | (patches >= channel.max())
    return ends.float().mean(dim=1) <= MOST_CLIPPED


def patch_variance(patches: Tensor) -> float:
    """The noise variance in `patches` (K, side * side)."""
    return _flat_patches(patches)[1]


def _flat_patches(patches: Tensor) -> tuple[Tensor, float]:
    """Those of `patches` (K, side * side) that hold little but noise, and its variance."""
    gradients = _gradient_energy(patches, round(patches.shape[1] ** 0.5))
    flat, variance = patches, _flat_spectrum(patches)
    for _ in range(REFINEMENTS):
        # Under noise alone the energy is 2 * variance a difference; nearly all patches stay.
        weak = patches[gradients < variance * WEAK_GRADIENTS]
        if len(weak) < FEWEST_PATCHES:
            break
        if (found := _flat_spectrum(weak)) < variance:
            flat, variance = weak, found
    return flat, variance


def _gradient_energy(patches: Tensor, side: int) -> Tensor:
    """Mean square of the differences of neighbors, for each of the patches (K, side * side)."""
    squares = patches.reshape(-1, side, side)
    across, down = squares.diff(dim=2).square(), squares.diff(dim=1).square()
    return (across.mean(dim=(1, 2)) + down.mean(dim=(1, 2))) / 2


def _flat_spectrum(patches: Tensor) -> float:
    """The variance in the directions that noise alone fills, of patches (K, pixels)."""
    centered = patches - patches.mean(dim=0)
    covariance = (centered.T @ centered).double().cpu() / len(centered)
    values = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0)
    for skipped in range(len(values) - 1):
        rest = values[skipped:]
        mean = rest.mean()
        # As many on either side of the mean: it is the median.
        if (rest > mean).sum() >= (rest < mean).sum():
            return float(mean)
    return float(values[-1])
