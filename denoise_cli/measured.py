"""Noise measured from a user's own frames: signal-dependent, spatially and spectrally correlated.

The model is the affine one of Foi et al., "Practical Poissonian-Gaussian noise modeling and
fitting", TIP 2008, variance(x) = shot * x + read, with each of the two parts given a spatial
autocovariance of its own instead of being white: cov(x, lag) = x * S(lag) + R(lag), S(0) = shot and
R(0) = read. That holds shot noise on top of row-correlated read noise as well as the blurred,
demosaiced noise of a finished photo.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import DenoiseError, UsageError
from .image import to_planes
from .normalize import Scale

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]

LAGS = 16  # greatest lag of the autocovariance, in pixels
WINDOW = 64  # side of the windows that it is measured on
FLAT_WINDOW = 32  # in pictures, where larger ones are seldom flat
LEVELS = 12  # bins of brightness
FLAT_FRACTION = 0.05
SIGNIFICANT = 4.0  # standard errors that a covariance must have to count
STATIC = 0.5  # frames of one scene: their block means differ by less than this share of a pixel


@dataclass(frozen=True, eq=False)
class Measured:
    """Noise as `measure` found it.

    Attributes
    ----------
    shot, read : ndarray (2 * LAGS + 1, 2 * LAGS + 1)
        Autocovariances over (dy, dx), lag 0 in the middle, of a picture on 0..1: of the part whose
        variance grows with brightness, and of the part that is always there.
    colors : ndarray (C, C)
        Correlation of the channels' noise; C is 1 for gray frames.
    levels, variances : ndarray
        What the line variance = shot * level + read was fitted to.
    frames : int
        How many frames were measured.
    static : bool
        Whether differences of frames of one scene were used; otherwise flat windows of pictures.
    white : float
        The stored value that is 1 on the scale of 0..1.
    """

    shot: Array
    read: Array
    colors: Array
    levels: Array
    variances: Array
    frames: int
    static: bool
    white: float

    @property
    def is_gray(self) -> bool:
        """Whether the frames were gray: the noise is for gray pictures."""
        return len(self.colors) == 1

    def sample(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Noisy pictures for `clean` (N, C, Y, X) on 0..1; same shape."""
        signal = clean.clamp(min=0).sqrt()
        return (
            clean
            + signal * self._field(self.shot, clean, generator)
            + self._field(self.read, clean, generator)
        )

    def describe(self) -> dict[str, Any]:
        """The model in numbers that JSON can hold, for a checkpoint's header."""
        middle = LAGS
        return {
            "shot": float(self.shot[middle, middle]),
            "read": float(self.read[middle, middle]),
            "shot_autocovariance": _rounded(self.shot),
            "read_autocovariance": _rounded(self.read),
            "color_correlation": _rounded(self.colors),
            "frames": self.frames,
            "white": self.white,
        }

    def summary(self) -> str:
        """The model in one line, on the scale of 0..255."""
        middle = LAGS
        shot, read = self.shot[middle, middle], self.read[middle, middle]
        sigmas = [255 * float(np.sqrt(max(shot * x + read, 0))) for x in (0.05, 0.5, 0.95)]
        total = 0.5 * self.shot + self.read
        total = total / max(float(total[middle, middle]), 1e-12)
        source = "frames of one scene" if self.static else "flat parts of pictures"
        return (
            f"{self.frames} frames ({source}, white = {self.white:g}): sigma "
            f"{sigmas[0]:.1f} / {sigmas[1]:.1f} / {sigmas[2]:.1f} of 255 at 5 / 50 / 95 % "
            f"brightness; correlation with the next pixel {total[middle, middle + 1]:+.2f} across, "
            f"{total[middle + 1, middle]:+.2f} down"
        )

    def _field(
        self, covariance: Array, like: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Gaussian noise of this autocovariance, shaped like `like`."""
        import torch

        if covariance[LAGS, LAGS] <= 0:
            return torch.zeros_like(like)
        rows, columns = (-(-n // WINDOW) * WINDOW for n in like.shape[-2:])
        response = torch.from_numpy(_response(covariance.tobytes(), rows, columns)).to(like)
        count, channels = like.shape[:2]
        white = torch.randn(count, channels, rows, columns, generator=generator, device=like.device)
        if channels == len(self.colors) and channels > 1:
            mix = np.linalg.cholesky(self.colors + 1e-6 * np.eye(channels)).astype(np.float32)
            white = torch.einsum("ij,njyx->niyx", torch.from_numpy(mix).to(like), white)
        field = torch.fft.irfft2(torch.fft.rfft2(white) * response, s=(rows, columns))
        return field[..., : like.shape[-2], : like.shape[-1]]


@lru_cache(maxsize=32)
def _response(covariance: bytes, rows: int, columns: int) -> Array:
    """The filter (rows, columns // 2 + 1) that gives white noise a periodic autocovariance.

    Beyond the greatest lag measured the covariance goes on as it ends, so that noise that is
    constant along a row stays so over the whole picture.
    """
    side = 2 * LAGS + 1
    known = np.frombuffer(covariance).reshape(side, side)
    dy = np.clip(np.minimum(np.arange(rows), rows - np.arange(rows)), 0, LAGS)
    dx = np.clip(np.minimum(np.arange(columns), columns - np.arange(columns)), 0, LAGS)
    sign_y = np.where(np.arange(rows) <= rows // 2, 1, -1)
    sign_x = np.where(np.arange(columns) <= columns // 2, 1, -1)
    periodic = known[LAGS + (dy * sign_y)[:, None], LAGS + (dx * sign_x)[None]]
    spectrum = np.fft.rfft2(periodic).real.clip(min=0)
    # What was clipped away is missing from the variance.
    weights = np.full(spectrum.shape[1], 2.0)
    weights[[0, -1]] = 1.0
    variance = float((spectrum * weights).sum()) / (rows * columns)
    spectrum *= known[LAGS, LAGS] / max(variance, 1e-30)
    return np.sqrt(spectrum).astype(np.float32)


def measure(path: str | Path) -> Measured:
    """Fit the noise model to the frames at `path`.

    Frames that follow one another and show one scene (dark frames, flat fields, repeated shots; the
    pages of a stack) are compared with one another, which cancels the scene. Of frames that are
    alone the flattest windows are taken, which need not be noise alone: prefer two or more.

    Parameters
    ----------
    path : path
        A picture or a folder of pictures, searched recursively; all are put on one scale.

    Raises
    ------
    UsageError
        If there is nothing there, or no frame is large enough.
    DenoiseError
        If a frame cannot be read.
    """
    frames, white = _frames(Path(path))
    residuals, static = [], False
    alone: list[Array] = []
    for run in _scenes(frames):
        if len(run) > 1:
            static = True
            residuals += [((a + b) / 2, (a - b) / np.sqrt(2)) for a, b in _neighbors(run)]
        else:
            alone += run
    windows = list(_static_windows(residuals) if static else _flat_windows(alone))
    if not windows:
        raise UsageError(
            f"{path}: no frame has {WINDOW} pixels on its short side; give larger ones"
        )
    return _fit(windows, frames=len(frames), static=static, white=white)


def _frames(path: Path) -> tuple[list[Array], float]:
    """All pictures (C, Y, X) at `path` on 0..1, in the order of their names; white's value."""
    from . import io

    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in io.SUFFIXES)
    else:
        paths = [path]
    if not paths or not path.exists():
        raise UsageError(
            f"{path}: no pictures there; measured:PATH takes dark frames, flat fields or noisy "
            "pictures"
        )
    stored = []
    for each in paths:
        image = io.read(each)
        stored += list(to_planes(image.samples, image.axes)[0])
    channels = min(len(frame) for frame in stored)
    # One scale for all, and all of it: dark frames must not be stretched.
    scale = Scale.of(max(stored, key=lambda frame: float(frame.max())), whole=True)
    return [scale.forward(frame[:channels]) for frame in stored], scale.gain


def _scenes(frames: list[Array]) -> list[list[Array]]:
    """`frames` in runs that show the same."""
    runs: list[list[Array]] = []
    for frame in frames:
        if runs and _same_scene(runs[-1][-1], frame):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _same_scene(first: Array, second: Array) -> bool:
    if first.shape != second.shape or min(first.shape[1:]) < 16:
        return False
    difference = first - second
    rows, columns = (n // 16 * 16 for n in difference.shape[1:])
    blocks = difference[:, :rows, :columns].reshape(-1, rows // 16, 16, columns // 16, 16)
    spread = float(difference.std())
    # A flat field may drift in brightness by less than its noise; a new scene differs by more.
    return float(np.abs(blocks.mean(axis=(2, 4))).mean()) < STATIC * spread


def _neighbors(run: list[Array]) -> Iterator[tuple[Array, Array]]:
    """Disjoint pairs first, so that no frame counts twice; an odd last one is left out."""
    return zip(run[::2], run[1::2], strict=False)


def _static_windows(residuals: list[tuple[Array, Array]]) -> Iterator[tuple[float, Array]]:
    """(level, noise (C, W, W)) of each window of the differences."""
    for level, noise in residuals:
        noise = noise - noise.mean(axis=(1, 2), keepdims=True)
        for part in _grid(noise.shape[1:], WINDOW):
            yield float(level[part].mean()), noise[part]


def _flat_windows(frames: list[Array]) -> Iterator[tuple[float, Array]]:
    """The same of the flattest windows of each brightness, without their slope."""
    for frame in frames:
        candidates = []
        for part in _grid(frame.shape[1:], FLAT_WINDOW):
            window = frame[part]
            candidates.append((float(window.mean()), window - _plane(window)))
        candidates.sort(key=lambda item: item[0])
        levels = max(1, min(LEVELS, len(candidates)))
        for group in filter(len, np.array_split(np.arange(len(candidates)), levels)):
            energies = [float(np.square(candidates[i][1]).mean()) for i in group]
            keep = max(1, round(FLAT_FRACTION * len(group)))
            for i in np.argsort(energies)[:keep]:
                # Clipped windows hold no noise.
                if energies[i] > 0:
                    yield candidates[group[i]]


def _grid(shape: tuple[int, ...], side: int) -> Iterator[tuple[slice, slice, slice]]:
    for y in range(0, shape[0] - side + 1, side // 2):
        for x in range(0, shape[1] - side + 1, side // 2):
            yield slice(None), slice(y, y + side), slice(x, x + side)


def _plane(window: Array) -> Array:
    """The least-squares plane of each channel of a square window (C, W, W)."""
    ramp = np.linspace(-1, 1, window.shape[-1])
    ramp /= np.sqrt(np.square(ramp).mean())
    down, across = ramp[:, None], ramp[None]
    plane: Array = window.mean(axis=(1, 2), keepdims=True) + sum(
        (window * slope).mean(axis=(1, 2), keepdims=True) * slope for slope in (down, across)
    )
    return plane


def _fit(
    windows: list[tuple[float, Array]], *, frames: int, static: bool, white: float
) -> Measured:
    from scipy.optimize import nnls

    windows.sort(key=lambda item: item[0])
    groups = [g for g in np.array_split(np.arange(len(windows)), LEVELS) if len(g)]
    levels, covariances, colors = [], [], []
    for group in groups:
        noise = np.stack([windows[i][1] for i in group])
        levels.append(float(np.mean([windows[i][0] for i in group])))
        covariances.append(_autocovariance(noise))
        colors.append(_color_correlation(noise))
    level = np.clip(levels, 0, None)
    covariance = np.stack(covariances)
    variances = covariance[:, LAGS, LAGS]
    weights = 1 / np.maximum(variances, 1e-12)
    design = np.stack([level, np.ones_like(level)], axis=1) * weights[:, None]
    if np.ptp(level) < 0.02:  # one brightness tells nothing of the slope
        design[:, 0] = 0
    (shot, read), _ = nnls(design, variances * weights)
    # The lags follow the same line, of either sign; what no line explains is not significant.
    inverse = np.linalg.pinv(design)
    flat = covariance.reshape(len(level), -1) * weights[:, None]
    slopes, offsets = (part.reshape(covariance.shape[1:]) for part in inverse @ flat)
    samples = sum(noise[0].size for _, noise in windows) / 4  # windows overlap by half
    error = float((level * shot + read).mean()) / np.sqrt(samples)
    return Measured(
        _significant(slopes, shot, read == 0, error / max(float(level.mean()), 1e-6)),
        _significant(offsets, read, shot == 0, error),
        np.mean(colors, axis=0),
        np.array(levels),
        variances,
        frames,
        static,
        white,
    )


def _significant(covariance: Array, variance: float, alone: bool, error: float) -> Array:
    """`covariance` with `variance` at lag 0, symmetric, and zero where it is within its error."""
    if variance <= 0:
        return np.zeros_like(covariance)
    result = (covariance + covariance[::-1, ::-1]) / 2
    limit = SIGNIFICANT * error * (1 if alone else 2)
    result = np.where(np.abs(result) > limit, result, 0).clip(-variance, variance)
    result[LAGS, LAGS] = variance
    return np.ascontiguousarray(result)


def _autocovariance(noise: Array) -> Array:
    """Mean autocovariance (2 LAGS + 1, 2 LAGS + 1) of windows (K, C, W, W)."""
    side = noise.shape[-1]
    padded = np.fft.rfft2(noise, s=(2 * side, 2 * side))
    power = np.square(np.abs(padded)).mean(axis=(0, 1))
    products = np.fft.fftshift(np.fft.irfft2(power, s=(2 * side, 2 * side)))
    lags = np.arange(-LAGS, LAGS + 1)
    pairs = (side - np.abs(lags))[:, None] * (side - np.abs(lags))[None]
    near = slice(side - LAGS, side + LAGS + 1)
    covariance: Array = products[near, near] / pairs
    return covariance


def _color_correlation(noise: Array) -> Array:
    """Correlation (C, C) of the channels of windows (K, C, W, W)."""
    flat = np.moveaxis(noise, 1, 0).reshape(noise.shape[1], -1)
    covariance = flat @ flat.T / flat.shape[1]
    scale = np.sqrt(np.diag(covariance)).clip(min=1e-12)
    return covariance / scale[:, None] / scale[None]


def _rounded(values: Array) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values]


def plot(model: Measured, path: str | Path) -> None:
    """Draw the measured variances with the line fitted to them, and the correlation, as a PNG.

    Raises
    ------
    DenoiseError
        If the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    side, margin = 400, 60
    sheet = Image.new("RGB", (2 * side + 3 * margin, side + 2 * margin), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    shot, read = model.shot[LAGS, LAGS], model.read[LAGS, LAGS]
    top = 1.15 * max(float(model.variances.max()), shot + read, 1e-12)

    def at(level: float, variance: float) -> tuple[float, float]:
        return margin + side * level, margin + side * (1 - variance / top)

    draw.rectangle((margin, margin, margin + side, margin + side), outline="gray")
    draw.line([at(0, read), at(1, shot + read)], fill=(200, 60, 40), width=2)
    for level, variance in zip(model.levels, model.variances, strict=True):
        x, y = at(min(max(level, 0), 1), variance)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(30, 90, 180))
    draw.text((margin, 20), f"variance = {shot:.3g} * x + {read:.3g}", "black", font)
    draw.text((margin, margin + side + 8), "0", "black", font)
    draw.text((margin + side - 150, margin + side + 8), "brightness x, to 1", "black", font)
    draw.text((margin + 4, margin + 4), f"{top:.2g}", "gray", font)

    total = 0.5 * model.shot + model.read
    correlation = total / max(float(total[LAGS, LAGS]), 1e-12)
    warm, cold = np.array([200, 60, 40]), np.array([30, 90, 180])
    strength = np.sqrt(np.abs(correlation).clip(0, 1))[..., None]  # small ones are to be seen
    tint = np.where(correlation[..., None] > 0, warm, cold)
    cells = (255 * (1 - strength) + tint * strength).astype(np.uint8)
    map_ = Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST)
    left = 2 * margin + side
    sheet.paste(map_, (left, margin))
    draw.rectangle((left, margin, left + side, margin + side), outline="gray")
    title = f"correlation at half brightness, {LAGS} pixels each way"
    draw.text((left, 20), title, "black", font)
    legend = "red: positive, blue: negative (square root)"
    draw.text((left, margin + side + 8), legend, "black", font)
    try:
        sheet.save(path)
    except OSError as error:
        raise DenoiseError(f"{path}: cannot be written ({error.strerror or error})") from None
