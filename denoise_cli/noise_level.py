"""How strong the noise of a picture is: told by a specification, or estimated from the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UsageError
from .noise import Gaussian, Noise, Poisson, PoissonGaussian, Range, parse

PATCH = 8  # side of the patches whose covariance is looked at, in pixels
MOST_PATCHES, FEWEST_PATCHES = 50_000, 500
REFINEMENTS = 4
WEAK_GRADIENTS = 2 * 1.5  # 2 is the mean under noise alone; its spread in a patch is 0.27
# Limits of `is_correlated` and `is_uniform`: between what photos under white noise of sigma 10
# to 70 show (at most 0.11 and 1.34) and those under correlated (0.29) or Poisson noise (2.02).
MOST_CORRELATED, MOST_UNEVEN, FLATTEST = 0.2, 1.5, 0.1
DARKEST = 1e-6  # least variance that is told from none


@dataclass(frozen=True)
class NoiseLevel:
    """Noise of variance ``shot * x + read`` at the brightness x; shot 0 is white Gaussian noise.

    Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting", TIP 2008, eq. 1.
    """

    shot: float = 0.0
    read: float = 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation in the middle of the range 0..1."""
        return float((0.5 * self.shot + self.read) ** 0.5)

    def standardized(self, mean: Sequence[float], std: Sequence[float]) -> NoiseLevel:
        """The same noise for pictures ``(x - mean) / std``; of several channels the average."""
        m, s = sum(mean) / len(mean), sum(std) / len(std)
        return NoiseLevel(self.shot / s, (self.shot * m + self.read) / s**2)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy pictures for `clean` (N, C, Y, X), in Gaussian approximation."""
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        return clean + (self.shot * clean + self.read).clamp(min=0).sqrt() * noise

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
    are only textured.
    """
    ratios = []
    for channel in pictures.transpose(0, 1):
        dark, _, bright = map(_patch_variance, _thirds(_patches(channel)))
        ratios.append(max(bright, DARKEST**2) / max(dark, DARKEST**2))
    ratio = sum(ratios) / len(ratios)
    return ratio < MOST_UNEVEN


def _variance(channel: Tensor) -> float:
    """The noise variance in `channel` (N, Y, X)."""
    return _patch_variance(_patches(channel))


def _patches(channel: Tensor) -> Tensor:
    """Patches (side * side, K) of `channel` (N, Y, X), evenly spread."""
    count, rows, columns = channel.shape
    side = min(PATCH, rows, columns)
    stride = max(1, round((count * rows * columns / MOST_PATCHES) ** 0.5))
    patches = F.unfold(channel[:, None].float(), side, stride=stride)
    return patches.transpose(0, 1).flatten(1)


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
