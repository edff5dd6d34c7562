"""The mosaic of a camera sensor: what a network can take of it, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROWS = 512  # processed at a time; a multiple of every pattern's height is taken

# The color of the surroundings is taken over a Gaussian of so many pixels, times the deviation of
# the noise on 0..1, within the limits. Chosen by PSNR: a wide one takes less noise over from the
# surroundings, but leaves the mosaic at edges of color.
CHROMA_SIGMA, CHROMA_LIMITS = 70.0, (2.0, 4.0)

# What rounding to integers alone does to a sample, as a variance.
ROUNDING = 1 / 12


@dataclass(frozen=True)
class Noise:
    """Variance of a sample x above black: ``shot * x + read``, in units of stored numbers.

    Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting", TIP 2008.
    """

    shot: float
    read: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "read", max(self.read, ROUNDING))

    def stabilize(self, linear: Array) -> Array:
        """Samples above black -> values whose noise has about the standard deviation 1.

        The generalized Anscombe transform (Starck, Murtagh, Bijaoui, "Image Processing and Data
        Analysis", 1998, section 2.3). Below black, where it would have no inverse, it goes on as a
        straight line: only read noise is there.
        """
        # 0 at black; written so that no digits are lost where there is nearly no shot noise.
        start = self._constant**0.5
        return 2 * linear / (np.sqrt(self.shot * np.maximum(linear, 0) + start**2) + start)

    def algebraic_inverse(self, values: Array) -> Array:
        """The exact inverse of `stabilize`."""
        return values * self._constant**0.5 + self.shot / 4 * np.maximum(values, 0) ** 2

    def bias(self, values: Array) -> Array:
        """What the algebraic inverse of a noise-free value lacks to the mean of the samples.

        A mean of stabilized samples is smaller than the stabilized mean, since the transform is
        concave (Makitalo and Foi, "Optimal inversion of the generalized Anscombe transformation",
        TIP 2013). Computed by Gauss-Hermite quadrature for noise of this variance.
        """
        means, lacking = self._bias_table
        return np.interp(values, means, lacking)

    @property
    def _constant(self) -> float:
        return 0.375 * self.shot**2 + self.read

    @cached_property
    def _bias_table(self) -> tuple[Array, Array]:
        nodes, weights = np.polynomial.hermite_e.hermegauss(31)
        # Dense where it changes: around black, in units of the noise there.
        steps = self._constant**0.5 * np.concatenate(
            [np.linspace(-4, 4, 65), np.geomspace(4.2, 1e4, 128)]
        )
        deviation = np.sqrt(self.shot * np.maximum(steps, 0) + self.read)
        samples = steps[:, None] + deviation[:, None] * nodes
        means = self.stabilize(samples) @ weights / weights.sum()
        return means, steps - self.algebraic_inverse(means)


@dataclass(frozen=True)
class Mosaic:
    """How the samples of a sensor become planes; a `denoise_cli.image.View`.

    Attributes
    ----------
    colors : tuple of tuple of int
        The repeated pattern of filters, from the top left of `area`: 0 red, 1 green, 2 blue.
    black : tuple of tuple of float
        Black level at each place of the pattern.
    white : float
        Level from which on samples are clipped.
    area : tuple of int
        Top, left, height and width of what light falls on.
    noise : Noise or None
        None: estimated from the samples.
    """

    colors: tuple[tuple[int, ...], ...]
    black: tuple[tuple[float, ...], ...]
    white: float
    area: tuple[int, int, int, int]
    noise: Noise | None = None

    def forward(self, samples: Array) -> tuple[Array, str]:
        """Stored samples (Y, X) -> one gray picture, float32 of about 0..1, and its axes.

        Noise is of the same strength everywhere, and the color of the surroundings is taken out of
        each sample: what remains is as finely resolved as the sensor, and white noise stays white.
        """
        noise = self.noise_of(samples)
        values = self._stabilized(samples, noise)
        values -= self._chroma(values, noise)
        return values, "YX"

    def inverse(self, samples: Array, denoised: Array) -> Array:
        """A denoised picture -> samples of the type of `samples`, which were theirs.

        Where `denoised` is what `forward` gave, they come back bit by bit. Clipped samples and
        those outside `area` stay as they are.
        """
        noise = self.noise_of(samples)
        top = self._top(noise)
        values = self._stabilized(samples, noise)
        values = self._chroma(values, noise) + denoised
        unbias = self._removed(samples, values, noise)
        result = samples.copy()
        visible = self._visible(result)
        limit = np.iinfo(samples.dtype).max
        for rows in self._bands():
            stabilized = values[rows].astype(np.float64) * top
            linear = noise.algebraic_inverse(stabilized) + unbias * noise.bias(stabilized)
            exact = np.clip(np.rint(linear + self._black_of(rows)), 0, limit)
            kept = visible[rows] >= self.white
            visible[rows] = np.where(kept, visible[rows], exact)
        self._keep_means(self._visible(samples), visible)
        return result

    def linear(self, samples: Array) -> tuple[Array, str]:
        """Stored samples (Y, X) -> those of `area`, 0 at their black and 1 at the white level."""
        visible = self._visible(samples)
        black = _repeated(np.array(self.black), visible.shape)
        return (visible - black) / (self.white - black), "YX"

    def even(self, samples: Array) -> Array:
        """Those under the first green filter of each pattern, on the scale of `linear`."""
        rows, columns = np.shape(self.colors)
        y, x = np.argwhere(np.array(self.colors) == 1)[0]
        found: Array = self.linear(samples)[0][y::rows, x::columns].astype(np.float32)
        return found

    def _keep_means(self, before: Array, after: Array) -> None:
        """Give `after` the mean of each color of `before`: networks shift dark colors a little."""
        colors, black = np.array(self.colors), np.array(self.black)
        rows, columns = colors.shape
        for color in np.unique(colors):
            sums = np.zeros(2)
            places = [tuple(place) for place in np.argwhere(colors == color)]
            for y, x in places:
                for i, picture in enumerate((before, after)):
                    part = picture[y::rows, x::columns]
                    sums[i] += part.sum(dtype=np.float64) - black[y, x] * part.size
            if sums[0] == sums[1] or sums.min() <= 0:
                continue
            gain = float(np.clip(sums[0] / sums[1], 0.95, 1.05))
            for y, x in places:
                part = after[y::rows, x::columns]
                scaled = np.rint((part - black[y, x]) * gain + black[y, x])
                limit = np.iinfo(after.dtype).max
                part[...] = np.where(part >= self.white, part, np.clip(scaled, 0, limit))

    def noise_of(self, samples: Array) -> Noise:
        """The noise that is known, or an estimate of it."""
        return self.noise or estimate(self._visible(samples), np.array(self.black), self.white)

    def _stabilized(self, samples: Array, noise: Noise) -> Array:
        values = np.empty(self.area[2:], np.float32)
        for rows in self._bands():
            values[rows] = noise.stabilize(self._linear(samples, rows)) / self._top(noise)
        return values

    def _chroma(self, values: Array, noise: Noise) -> Array:
        """How much brighter or darker than gray the surroundings are in the color of a sample."""
        from scipy.ndimage import gaussian_filter

        sigma = float(np.clip(CHROMA_SIGMA / self._top(noise), *CHROMA_LIMITS))

        def smooth(picture: Array) -> Array:
            return gaussian_filter(picture, sigma, mode="reflect", truncate=3)

        gray, own = np.zeros_like(values), np.zeros_like(values)
        for color in np.unique(self.colors):
            there = _repeated(np.array(self.colors) == color, values.shape)
            share = smooth(there.astype(np.float32))
            mean = smooth(np.where(there, values, np.float32(0))) / share
            gray += mean
            np.copyto(own, mean, where=there)
        own -= gray / np.float32(len(np.unique(self.colors)))
        return own

    def _removed(self, samples: Array, values: Array, noise: Noise) -> float:
        """How much of the variance-stabilizing bias is to be corrected: 0 (no noise gone) to 1."""
        total = 0.0
        for rows in self._bands():
            noisy = noise.stabilize(self._linear(samples, rows))
            total += float(np.square(noisy - values[rows] * self._top(noise)).sum())
        # Noise has the deviation 1; what is left of it still shifts the mean as it did.
        left = 1 - min((total / values.size) ** 0.5, 1)
        # Less than rounding can tell: nothing was removed.
        return 1 - left**2 if left < 1 - 1e-3 else 0.0

    def _top(self, noise: Noise) -> float:
        return float(noise.stabilize(np.array(self.white - np.min(self.black))))

    def _visible(self, samples: Array) -> Array:
        top, left, height, width = self.area
        return samples[top : top + height, left : left + width]

    def _bands(self) -> Iterator[slice]:
        step = ROWS // len(self.colors) * len(self.colors)
        return (slice(y, min(y + step, self.area[2])) for y in range(0, self.area[2], step))

    def _linear(self, samples: Array, rows: slice) -> Array:
        return self._visible(samples)[rows].astype(np.float64) - self._black_of(rows)

    def _black_of(self, rows: slice) -> Array:
        return _repeated(np.array(self.black), (rows.stop - rows.start, self.area[3]))


def estimate(samples: Array, black: Array, white: float) -> Noise:
    """Fit shot and read noise to a mosaic.

    In blocks of samples of one color the variance is taken of what a second difference across both
    axes leaves; of the blocks of about one brightness, those with the least texture count.

    Parameters
    ----------
    samples : ndarray
        Stored numbers (Y, X).
    black : ndarray
        Black level at each place of the repeated pattern.
    white : float
        Blocks near this level are left out: clipping takes noise away.
    """
    means, variances = [], []
    rows, columns = black.shape
    for y, x in np.ndindex(rows, columns):
        plane = samples[y::rows, x::columns]
        mean, variance = _block_statistics(plane, float(black[y, x]))
        good = mean < 0.9 * (white - black[y, x])
        means.append(mean[good])
        variances.append(variance[good])
    return _fit(np.concatenate(means), np.concatenate(variances))


BLOCK = 16  # samples of one color along each side
BINS = 24
# Quantile of the variances in a bin, and what it is of the mean for blocks without texture: of the
# chi-squared distribution of BLOCK**2 / 4 degrees of freedom (Wilson and Hilferty, PNAS 1931).
QUANTILE, NORMAL_QUANTILE = 0.25, -0.6744898
_FREEDOM = BLOCK**2 / 4
FLAT = float((1 - 2 / (9 * _FREEDOM) + NORMAL_QUANTILE * (2 / (9 * _FREEDOM)) ** 0.5) ** 3)


def _block_statistics(plane: Array, black: float) -> tuple[Array, Array]:
    """Mean above black and noise variance of each block of a plane of one color."""
    height, width = (side // BLOCK * BLOCK for side in plane.shape)
    # Of each two by two samples the mean, and the difference that has the variance of one sample.
    four = plane[:height, :width].astype(np.float32).reshape(height // 2, 2, width // 2, 2)
    difference = (four[:, 0, :, 0] - four[:, 0, :, 1] - four[:, 1, :, 0] + four[:, 1, :, 1]) / 2
    average = four.mean(axis=(1, 3)) - black

    def blocks(picture: Array) -> Array:
        half = BLOCK // 2
        shape = (height // BLOCK, half, width // BLOCK, half)
        return picture.reshape(shape).mean(axis=(1, 3), dtype=np.float64).ravel()

    return blocks(average), blocks(np.square(difference))


def _fit(means: Array, variances: Array) -> Noise:
    """A line through the variances of the smoothest blocks of each brightness."""
    if means.size == 0:
        return Noise(0.0, 0.0)
    order = np.argsort(means)
    groups = [part for part in np.array_split(order, BINS) if part.size >= 4] or [order]
    x = np.array([means[part].mean() for part in groups])
    y = np.array([np.quantile(variances[part], QUANTILE) for part in groups]) / FLAT
    y = np.maximum(y, ROUNDING)
    shot, read = 0.0, float(y.mean())
    for _ in range(5):  # weighted by the variance of a variance, and by texture that remains
        weight = 1 / np.maximum(shot * x + read, ROUNDING)
        design = np.stack([np.maximum(x, 0), np.ones_like(x)], axis=1) * weight[:, None]
        shot, read = (float(v) for v in np.linalg.lstsq(design, y * weight, rcond=None)[0])
        if read < 0 or shot < 0:
            mean_ratio = float(np.mean(y / np.maximum(x, 1)))
            shot, read = (mean_ratio, 0.0) if read < 0 else (0.0, float(np.median(y)))
            break
    return Noise(shot, read)


def _repeated(pattern: Array, shape: tuple[int, int]) -> Array:
    rows, columns = pattern.shape
    return np.tile(pattern, (-(-shape[0] // rows), -(-shape[1] // columns)))[: shape[0], : shape[1]]
