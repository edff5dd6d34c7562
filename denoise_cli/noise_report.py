"""What noise a picture has, measured on that picture alone: level, color, correlation, defects.

The noise is looked at where the picture is flat. A window of `2 * SIZE` pixels is cut into four;
two of the quarters say how flat it is, the other two say what the noise there is. The picture goes
on from a quarter to the next, but the noise of one says nothing about the noise of another, so
choosing flat windows does not choose those whose noise happens to be weak, a bias that estimates
from "the flattest windows" have to correct.

- Level: the variance of detrended flat windows against their brightness, and the line ``shot * x +
  read`` through it (Foi, Trimeche, Katkovnik, Egiazarian, "Practical Poissonian-Gaussian noise
  modeling and fitting for single-image raw-data", IEEE TIP 2008, eq. 5). Foi et al. take the
  variance of wavelet details, which is blind to the coarse part of correlated noise; hence the
  variance of windows here, at the cost of some texture passing for noise.
- Correlation: the mean autocorrelation of these windows, corrected for the subtraction of their
  planes, and their spectrum.
- Impulses, the grid of a JPEG, clipping: see `denoise_cli.defects`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .defects import impulses, jpeg_grid, pile

Array = npt.NDArray[Any]

SIZE = 8  # side of a quarter window
LARGEST = 3_000_000  # pixels that are looked at; of larger pictures bands of rows
BINS = 12  # of brightness
FLAT = 0.1  # share of the windows of one brightness that pass for flat
LAGS = 4
SPECTRUM = 16  # frequencies
LEAST_WINDOWS = 40
WHITE = 0.1  # a lesser correlation with the next pixel is called white
# Of bands: the correlation with each of the next `LAGS` pixels, the last over the first, and the
# first where rows and columns have bands. Of 500 photos with and without white noise, three have
# what passes for them.
LEAST_BANDS, LASTING, MOST_IN_BANDS = 0.08, 0.5, 0.5


@dataclass(frozen=True)
class NoiseReport:
    """The noise of a picture on 0..1; what could not be measured is None or empty.

    Attributes
    ----------
    sigma : float or None
        Standard deviation of the noise at the picture's own brightness (root mean square).
    shot, read : float or None
        Variance of the noise at brightness x: ``shot * x + read``.
    brightness, deviation : list of float
        Standard deviation of the noise as measured at these brightnesses.
    across, down : list of float
        Correlation of the noise with itself 1, 2, ... `LAGS` pixels to the right and below.
    blur : float or None
        Standard deviation in pixels of the Gaussian that, blurring white noise, gives the
        correlation of neighboring pixels; 0 for white noise.
    bands : list of str
        "rows", "columns" or both, if these have noise in common, as of sensors that are read out
        line by line.
    color : float or None
        Mean correlation of the noise of two color channels; None for gray pictures.
    spectrum : list of float
        Power of the noise at `SPECTRUM` frequencies from 0 to 0.5 cycles a pixel, as a multiple of
        that of white noise of the same variance; below 0.125 nothing is resolved.
    impulses : float
        Share of samples that stand out of their neighbors, such as salt and pepper or hot pixels.
    blockiness : float
        How many times more samples differ across the boundaries of 8 x 8 blocks than elsewhere.
    grid : tuple of int or None
        Where these blocks begin (column, row), if they show.
    clipped_low, clipped_high : float
        Share of samples at the least and at the greatest value, where they pile up.
    """

    sigma: float | None
    shot: float | None
    read: float | None
    brightness: list[float]
    deviation: list[float]
    across: list[float]
    down: list[float]
    blur: float | None
    bands: list[str]
    color: float | None
    spectrum: list[float]
    impulses: float
    blockiness: float
    grid: tuple[int, int] | None
    clipped_low: float
    clipped_high: float

    def record(self) -> dict[str, Any]:
        """The attributes by name, as JSON can hold them."""
        return asdict(self)


def spectrum(noise: Array) -> list[float]:
    """Power of pure noise, such as what a denoiser removed, at the frequencies of a report.

    Parameters
    ----------
    noise : ndarray
        (C, Y, X), sides of at least 8.

    Returns
    -------
    list of float
        Mean square at `SPECTRUM` frequencies from 0 to 0.5 cycles a pixel; white noise gives its
        variance everywhere.
    """
    channels, rows, columns = (n if i == 0 else n // SIZE for i, n in enumerate(noise.shape))
    whole = _bands(noise)[:, : rows * SIZE, : columns * SIZE]
    rows = whole.shape[1] // SIZE
    windows = whole[:, : rows * SIZE].reshape(channels, rows, SIZE, columns, SIZE)
    return _spectrum(_detrend(windows.transpose(1, 3, 0, 2, 4).reshape(-1, channels, SIZE, SIZE)))


def measure(picture: Array) -> NoiseReport:
    """Measure the noise of a picture.

    Parameters
    ----------
    picture : ndarray
        (C, Y, X) on about 0..1, float; C 1 (gray) or 3. As recorded: a resized or sharpened
        picture has the noise that this left of it.

    Returns
    -------
    NoiseReport
        With None for the level and the correlation of pictures that are too small (fewer than
        some 100 x 100 pixels) or flat nowhere.
    """
    picture = np.asarray(picture, np.float32)
    looked_at = _bands(picture)
    low, high = float(picture.min()), float(picture.max())
    clipped_low, clipped_high = pile(picture, low), pile(picture, high)
    share, is_impulse = impulses(looked_at)
    windows = _flat_windows(looked_at, is_impulse, (low, high))
    blockiness, grid = jpeg_grid(looked_at)
    shape = _shape(windows) if windows else _Shape()
    level = _level(windows, looked_at, shape.kept) if windows else _Level()
    return NoiseReport(
        sigma=level.sigma,
        shot=level.shot,
        read=level.read,
        brightness=list(level.brightness),
        deviation=list(level.deviation),
        across=list(shape.across),
        down=list(shape.down),
        blur=shape.blur,
        bands=_bands_of(shape),
        color=shape.color,
        spectrum=list(shape.spectrum),
        impulses=share,
        blockiness=blockiness,
        grid=grid,
        clipped_low=clipped_low,
        clipped_high=clipped_high,
    )


@dataclass(frozen=True)
class _Level:
    sigma: float | None = None
    shot: float | None = None
    read: float | None = None
    brightness: Sequence[float] = ()
    deviation: Sequence[float] = ()


@dataclass(frozen=True)
class _Shape:
    """Correlations, and the share of the variance that is `kept` when windows are detrended."""

    across: Sequence[float] = ()
    down: Sequence[float] = ()
    blur: float | None = None
    color: float | None = None
    spectrum: Sequence[float] = ()
    kept: float = 1.0


@dataclass(frozen=True)
class _Windows:
    """Flat windows: detrended samples (K, C, SIZE, SIZE) and their brightness (K, C)."""

    samples: Array
    brightness: Array


def _bands(picture: Array) -> Array:
    """`picture`, or evenly spread bands of rows of a larger one; bands begin at multiples of 8."""
    _, rows, columns = picture.shape
    if rows * columns <= LARGEST:
        return picture
    band = 8 * max(2 * SIZE // 8, 8)
    count = max(1, LARGEST // (band * columns))
    starts = np.linspace(0, rows - band, count).astype(int) // 8 * 8
    return np.concatenate([picture[:, start : start + band] for start in starts], axis=1)


def _flat_windows(picture: Array, bad: Array, limits: tuple[float, float]) -> _Windows | None:
    """The flattest windows of each brightness, without clipped samples and impulses."""
    side = 2 * SIZE
    channels, rows, columns = (n if i == 0 else n // side for i, n in enumerate(picture.shape))
    if rows * columns < LEAST_WINDOWS:
        return None

    def cut(plane: Array) -> Array:
        """(C, Y, X) -> (windows, four quarters, C, SIZE, SIZE)."""
        whole = plane[:, : rows * side, : columns * side]
        parts = whole.reshape(channels, rows, 2, SIZE, columns, 2, SIZE)
        return parts.transpose(1, 4, 2, 5, 0, 3, 6).reshape(-1, 4, channels, SIZE, SIZE)

    usable = ~(bad | (picture <= limits[0]) | (picture >= limits[1]))
    samples, good = cut(picture), cut(usable)
    # A few impulses may be in a window; its variance is that of the other samples.
    whole = good.mean(axis=(3, 4)).min(axis=(1, 2)) > 0.7
    if whole.sum() < LEAST_WINDOWS:
        return None
    samples, good = samples[whole], good[whole]
    brightness = _mean(samples, good)
    detrended = _detrend(np.where(good, samples, brightness[..., None, None]))
    detrended = np.where(good, detrended, 0) / np.sqrt(good.mean(axis=(3, 4), keepdims=True))
    # The diagonal quarters judge each other's flatness: 0 and 3 for 1 and 2, and the reverse.
    energy = np.square(detrended).mean(axis=(2, 3, 4))
    trend = np.square(brightness - brightness.mean(axis=1, keepdims=True)).mean(axis=(1, 2))
    chosen, means = [], []
    for judges, judged in (((0, 3), (1, 2)), ((1, 2), (0, 3))):
        rough = energy[:, judges].sum(axis=1) + trend
        for group in _by_brightness(brightness[:, judges].mean(axis=(1, 2))):
            flat = group[rough[group].argsort()[: math.ceil(FLAT * len(group))]]
            chosen.append(detrended[flat][:, judged].reshape(-1, channels, SIZE, SIZE))
            means.append(brightness[flat][:, judged].reshape(-1, channels))
    return _Windows(np.concatenate(chosen), np.concatenate(means))


def _mean(samples: Array, good: Array) -> Array:
    total: Array = (samples * good).sum(axis=(3, 4)) / good.sum(axis=(3, 4))
    return total


def _by_brightness(brightness: Array) -> list[Array]:
    order = brightness.argsort(kind="stable")
    return np.array_split(order, max(1, min(BINS, len(order) // LEAST_WINDOWS)))


def _detrend(windows: Array) -> Array:
    """Subtract the least-squares plane of each window (..., SIZE, SIZE)."""
    flat = windows.reshape(-1, SIZE**2)
    plane = (flat @ _planes().T.astype(np.float32)) @ _planes().astype(np.float32)
    return (flat - plane).reshape(windows.shape)


def _planes() -> Array:
    """An orthonormal basis (3, SIZE * SIZE) of the planes over a window."""
    position = np.arange(SIZE) - (SIZE - 1) / 2
    across = np.tile(position, (SIZE, 1))
    planes = [np.ones((SIZE, SIZE)), across, across.T]
    return np.stack([(plane / np.linalg.norm(plane)).ravel() for plane in planes])


def _level(windows: _Windows, picture: Array, kept: float) -> _Level:
    """Standard deviation against brightness, and the line of the variance."""
    variance = np.square(windows.samples).mean(axis=(2, 3)).ravel()
    brightness = windows.brightness.ravel()
    x, v, weight = [], [], []
    for group in _by_brightness(brightness):
        # The median does not see the windows that were textured after all; a chi-squared variable
        # of k degrees of freedom has its median at (1 - 2 / 9k)^3 of its mean.
        freedom = SIZE**2 - 3
        x.append(float(brightness[group].mean()))
        v.append(float(np.median(variance[group])) / (1 - 2 / (9 * freedom)) ** 3 / kept)
        weight.append(len(group))
    shot, read = _line(np.array(x), np.array(v), np.array(weight, float))
    mean = float(np.clip(picture.mean(), 0, None))
    return _Level(
        sigma=math.sqrt(max(shot * mean + read, 0)),
        shot=shot,
        read=read,
        brightness=x,
        deviation=[math.sqrt(value) for value in v],
    )


def _line(x: Array, variance: Array, count: Array) -> tuple[float, float]:
    """Weighted least squares of ``shot * x + read``, neither below 0; the error of a measured
    variance is in proportion to the variance."""
    weight = count / np.maximum(variance, 1e-12) ** 2
    for _ in range(4):  # the weights by the line, once there is one
        shot, read = _nonnegative_line(x, variance, weight)
        weight = count / np.maximum(shot * x + read, 1e-12) ** 2
    return shot, read


def _nonnegative_line(x: Array, y: Array, weight: Array) -> tuple[float, float]:
    mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = np.average((x - mean_x) ** 2, weights=weight)
    slope = np.average((x - mean_x) * (y - mean_y), weights=weight) / max(spread, 1e-12)
    if spread < 1e-8 or slope < 0:
        return 0.0, float(mean_y)
    if mean_y - slope * mean_x < 0:
        squares = np.average(x * x, weights=weight)
        return float(np.average(x * y, weights=weight) / max(squares, 1e-12)), 0.0
    return float(slope), float(mean_y - slope * mean_x)


def _shape(windows: _Windows) -> _Shape:
    """How the noise of flat windows is correlated, in the plane and between channels."""
    samples = windows.samples.astype(np.float64)
    energy = np.square(samples).mean(axis=(2, 3))
    # All windows count alike, bright or dark; those of next to no noise say nothing.
    strong = energy.min(axis=1) > 0.01 * np.median(energy)
    strong &= energy.max(axis=1) < 4 * np.median(energy)
    samples, energy = samples[strong], energy[strong]
    if len(samples) < LEAST_WINDOWS:
        return _Shape(kept=1 - float(_lost(0.0)[0]))
    normal = samples / np.sqrt(energy)[..., None, None]
    lags = range(1, LAGS + 1)
    across = np.array([1] + [(normal[..., :-lag] * normal[..., lag:]).mean() for lag in lags])
    down = np.array([1] + [(normal[..., :-lag, :] * normal[..., lag:, :]).mean() for lag in lags])
    blur = _blur(float(across[1] + down[1]) / 2)
    lost = _lost(blur)
    kept = 1 - float(lost[0])
    color = None
    if samples.shape[1] > 1:
        pairs = [(0, 1), (1, 2), (0, 2)]
        color = float(np.mean([(normal[:, a] * normal[:, b]).mean() for a, b in pairs]))
    return _Shape(
        across=[float(value) for value in np.clip(across * kept + lost, -1, 1)[1:]],
        down=[float(value) for value in np.clip(down * kept + lost, -1, 1)[1:]],
        blur=blur,
        color=color,
        spectrum=_spectrum(normal * math.sqrt(kept)),
        kept=kept,
    )


def _bands_of(shape: _Shape) -> list[str]:
    """Whether rows or columns have noise in common: it then correlates as well far along them.

    Other noise that does, coarse noise, correlates as much across them, or nearly fully.
    """
    found = []
    for name, along, across in (
        ("rows", shape.across, shape.down),
        ("columns", shape.down, shape.across),
    ):
        if along and _lasts(along):
            crossed = max(along[0], across[0]) < MOST_IN_BANDS and _lasts(across)
            if crossed or across[0] < LASTING * along[0]:
                found.append(name)
    return found


def _lasts(lags: Sequence[float]) -> bool:
    return min(lags) > LEAST_BANDS and lags[-1] > LASTING * lags[0]


def _blur(neighbors: float) -> float:
    """The blur of white noise whose detrended windows have this correlation of neighbors."""
    blurs = np.array([0.0, 0.35, *np.arange(0.4, 2.01, 0.05)])
    expected = []
    for blur in blurs:
        lost = _lost(blur)
        expected.append(float((_gaussian(1.0, blur) - lost[1]) / (1 - lost[0])))
    if neighbors < WHITE:
        return 0.0
    return float(np.interp(neighbors, expected, blurs))


def _gaussian(distance: Any, blur: float) -> Array:
    """Correlation at a distance in pixels of white noise blurred by a Gaussian."""
    distance = np.asarray(distance, np.float64)
    if blur == 0:
        return (distance == 0).astype(np.float64)
    return np.exp(-np.square(distance) / (4 * blur**2))


@cache
def _lost(blur: float) -> Array:
    """What detrending takes from the autocovariance at lags 0 to `LAGS` across, for variance 1.

    Windows of covariance R have that of ``(1 - P) R (1 - P)`` when P projects on the planes.
    """
    y, x = np.divmod(np.arange(SIZE**2), SIZE)
    covariance = _gaussian(np.hypot(y - y[:, None], x - x[:, None]), blur)
    projection = _planes().T @ _planes()
    half = projection @ covariance
    change = (half + half.T - half @ projection).reshape(SIZE, SIZE, SIZE, SIZE)
    column = np.arange(SIZE)
    return np.array(
        [
            np.mean([change[row, column[: SIZE - lag], row, column[lag:]] for row in range(SIZE)])
            for lag in range(LAGS + 1)
        ]
    )


def _spectrum(windows: Array) -> list[float]:
    """Radial mean of the power of detrended windows, without what detrending does to it."""
    power = np.square(np.abs(np.fft.fft2(windows))).mean(axis=(0, 1)) / SIZE**2
    planes = np.square(np.abs(np.fft.fft2(_planes().reshape(3, SIZE, SIZE)))).sum(axis=0)
    power /= np.maximum(1 - planes / SIZE**2, 0.25)
    frequency = np.fft.fftfreq(SIZE)
    radius = np.hypot(frequency[:, None], frequency)
    edges = np.linspace(0, 0.5, SPECTRUM)
    # Between the few frequencies of a window, values are interpolated along the radius.
    order = np.unique(np.round(radius.ravel(), 6))
    means = np.array([power[np.abs(radius - r) < 1e-4].mean() for r in order])
    inside = order > 0
    return [float(value) for value in np.interp(edges, order[inside], means[inside])]
