"""How strong the noise of a picture is: told by a specification, or estimated from the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UsageError
from .noise import Gaussian, Noise, Poisson, PoissonGaussian, Range, parse
from .transforms import cosines, distinct_planes, is_gray, opponent
from .windows import square_mean, square_variance, window_mean

PATCH = 8  # side of the patches whose covariance is looked at, in pixels
MOST_PATCHES, FEWEST_PATCHES = 50_000, 500
REFINEMENTS = 4
WEAK_GRADIENTS = 2 * 1.5  # 2 is the mean under noise alone; its spread in a patch is 0.27
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
# Of the energy across the rows (or columns) alone over that across both, in the quarter of the
# blocks with the least: photos under white noise have at most 2.1, with row noise of half the
# deviation of the other noise 2.9 and more.
LEAST_STRIPED, MOST_STRIPED = 0.25, 2.5
STEEPEST = 2.0  # of the line: photos under white noise have at most 1.7, under photon noise 2.48
DARKEST = 1e-6  # least variance that is told from none
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
    variances = [_variance(channel) for channel in pictures.transpose(0, 1)]
    return NoiseLevel(read=sum(variances) / len(variances))


def estimate_poisson_gaussian(pictures: Tensor) -> NoiseLevel | None:
    """The level of noise that grows with the light in `pictures` (N, C, Y, X) of any scale.

    The line through the variances of patches of like brightness, each found as in `estimate`
    (after Foi et al., 2008, section III, who take flat parts of the picture for that). Patches
    that are clipped are left out, and the variance is 0 nowhere but below the darkest place. None
    if the patches that are left are not enough for a line, or the noise does not grow with the
    light.
    """
    points = _all_points(pictures)
    if len(points) < 2:
        return None
    level = _line_through(points, pictures)
    return level if level.shot > 0 else None


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


def is_correlated(pictures: Tensor) -> bool:
    """Whether the noise of `pictures` (N, C, Y, X) is correlated from pixel to pixel.

    As in pictures that were scaled, demosaiced or compressed. Told by the flattest patches of the
    dark, the middle and the bright thirds: of all thirds, neighbors there must be alike, since
    faint texture is too.
    """
    found = [min(map(_correlation, _thirds(_patches(one)))) for one in pictures.transpose(0, 1)]
    return sum(found) / len(found) > MOST_CORRELATED


def is_uniform(pictures: Tensor) -> bool:
    """Whether the noise of `pictures` (N, C, Y, X) is no stronger in bright than in dark places.

    It grows with the light, if it changes; dark places that seem noisier, as the strokes of a page,
    are only textured. By the dark and the bright thirds, and by the line of
    `estimate_poisson_gaussian`, which sees the few bright places of a micrograph.
    """
    ratios = []
    for channel in pictures.transpose(0, 1):
        dark, _, bright = map(_patch_variance, _thirds(_patches(channel)))
        ratios.append(max(bright, DARKEST**2) / max(dark, DARKEST**2))
    if sum(ratios) / len(ratios) >= MOST_UNEVEN:
        return False
    points = _all_points(pictures)
    if len(points) < 2:
        return True
    fitted = _line_through(points, pictures).variance(torch.tensor(points)[:, 0])
    return float(fitted.max() / fitted.min()) < STEEPEST


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
    return not has_stripes(noisy) and has_high_frequencies(noisy, denoised, level)


def has_high_frequencies(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> bool:
    """Whether no color of what was removed (N, C, Y, X) lacks the highest frequencies.

    Noise that went through a JPEG does, in the colors first. Details may be among it: it is the
    median of the blocks that counts.
    """
    noise = (noisy - denoised) / level.variance(denoised).sqrt()
    if is_gray(noisy):
        noise = noise.mean(dim=1, keepdim=True)
    energy = _block_energies(noise)
    order = torch.arange(energy.shape[-1], device=noise.device)
    order = order[:, None] + order
    high, middle = (
        energy[..., chosen].mean(dim=-1).median(dim=1).values
        for chosen in (order > PATCH, (order >= PATCH // 2) & (order < PATCH - 1))
    )
    return bool((high > LEAST_HIGH * middle).all())


def has_stripes(noisy: Tensor) -> bool:
    """Whether the noise of `noisy` (N, C, Y, X) has rows or columns in common.

    As of sensors that are read out row by row. Told by the blocks that are least striped, since
    textures are striped here and there.
    """
    energy = _block_energies(noisy.mean(dim=1, keepdim=True))[0]
    half = PATCH // 2
    both = energy[:, half:, half:].mean(dim=(1, 2)).clamp(min=DARKEST**2)
    return any(
        float((along / both).quantile(LEAST_STRIPED)) > MOST_STRIPED
        for along in (energy[:, half:, 0].mean(dim=1), energy[:, 0, half:].mean(dim=1))
    )


def _block_energies(pictures: Tensor) -> Tensor:
    """The energy of each frequency (C, blocks, PATCH, PATCH) in blocks of (N, C, Y, X).

    Of three channels that of the brightness and of two differences of colors.
    """
    with torch.autocast(pictures.device.type, enabled=False):
        colors = opponent(pictures.shape[1]).to(pictures.device)
        pictures = torch.einsum("ij,njyx->niyx", colors, pictures.float())
        blocks = pictures.unfold(-2, PATCH, PATCH).unfold(-2, PATCH, PATCH)
        cosine = cosines(PATCH).to(blocks)
        return (cosine @ blocks @ cosine.T).square().transpose(0, 1).flatten(1, 3)


def _all_points(pictures: Tensor) -> list[tuple[float, float, int]]:
    """Those of `_points` of all channels of `pictures` (N, C, Y, X)."""
    return [point for channel in pictures.transpose(0, 1) for point in _points(channel)]


def _line_through(points: list[tuple[float, float, int]], pictures: Tensor) -> NoiseLevel:
    darkest = float(window_mean(pictures, 5, 5).amin())
    brightness, variance, count = torch.tensor(points, dtype=torch.float64).T
    return _line(brightness, variance, count, darkest)


def _points(channel: Tensor) -> list[tuple[float, float, int]]:
    """Brightness, noise variance and number of patches of `channel` (N, Y, X), from dark to bright.

    One for each of the groups that `GROUPS` delimits.
    """
    patches = _patches(channel)
    patches = patches[:, _is_unclipped(patches, channel)]
    order = patches.mean(dim=0).argsort()
    points = []
    for first, last in pairwise(int(share * len(order)) for share in GROUPS):
        if last - first >= FEWEST_OF_A_GROUP:
            group = patches[:, order[first:last]]
            points.append((float(group.mean()), _patch_variance(group), last - first))
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
    patches = _patches(channel)
    unclipped = patches[:, _is_unclipped(patches, channel)]
    return _patch_variance(unclipped if unclipped.shape[1] >= FEWEST_PATCHES else patches)


def _patches(channel: Tensor) -> Tensor:
    """Patches (side * side, K) of `channel` (N, Y, X), evenly spread."""
    count, rows, columns = channel.shape
    side = min(PATCH, rows, columns)
    stride = max(1, round((count * rows * columns / MOST_PATCHES) ** 0.5))
    patches = F.unfold(channel[:, None].float(), side, stride=stride)
    return patches.transpose(0, 1).flatten(1)


def _is_unclipped(patches: Tensor, channel: Tensor) -> Tensor:
    """Which of `patches` (pixels, K) have few samples at an end of the range of `channel`."""
    ends = (patches <= channel.min()) | (patches >= channel.max())
    return ends.float().mean(dim=0) <= MOST_CLIPPED


def _thirds(patches: Tensor) -> tuple[Tensor, ...]:
    """The dark, the middle and the bright ones of `patches` (pixels, K)."""
    order = patches.mean(dim=0).argsort()
    return tuple(patches[:, part] for part in order.tensor_split(3))


def _correlation(patches: Tensor) -> float:
    """The correlation of neighbors in the flattest of `patches` (side * side, K)."""
    side = round(len(patches) ** 0.5)
    centered = patches - patches.mean(dim=0)
    energy = centered.square().mean(dim=0)
    count = max(1, round(FLATTEST * len(energy)))
    flat = centered[:, energy.argsort()[:count]].reshape(side, side, -1)
    across, down = (flat[:, 1:] * flat[:, :-1]).mean(), (flat[1:] * flat[:-1]).mean()
    return float((across + down) / 2 / flat.square().mean().clamp(min=DARKEST**2))


def _patch_variance(patches: Tensor) -> float:
    """The noise variance in `patches` (side * side, K)."""
    gradients = _gradient_energy(patches, round(len(patches) ** 0.5))
    variance = _flat_spectrum(patches)
    for _ in range(REFINEMENTS):
        # Under noise alone the energy is 2 * variance a difference; nearly all patches stay.
        weak = gradients < variance * WEAK_GRADIENTS
        if int(weak.sum()) < FEWEST_PATCHES:
            break
        variance = min(variance, _flat_spectrum(patches[:, weak]))
    return variance


def _gradient_energy(patches: Tensor, side: int) -> Tensor:
    """Mean square of the differences of neighbors, for each of the patches (side * side, K)."""
    squares = patches.reshape(side, side, -1)
    across, down = squares.diff(dim=1).square(), squares.diff(dim=0).square()
    return (across.mean(dim=(0, 1)) + down.mean(dim=(0, 1))) / 2


def _flat_spectrum(patches: Tensor) -> float:
    """The variance in the directions that noise alone fills, of patches (pixels, K)."""
    centered = patches - patches.mean(dim=1, keepdim=True)
    covariance = (centered @ centered.T).double().cpu() / centered.shape[1]
    values = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0)
    for skipped in range(len(values) - 1):
        rest = values[skipped:]
        mean = rest.mean()
        # As many on either side of the mean: it is the median.
        if (rest > mean).sum() >= (rest < mean).sum():
            return float(mean)
    return float(values[-1])
