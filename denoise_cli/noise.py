"""Noise models: what `--noise SPEC` means, for training and for evaluation.

A model turns clean pictures (N, C, Y, X) on 0..1 into noisy ones. A parameter given as a range
``LOW-HIGH`` is drawn anew for each picture. Nothing is clipped or rounded unless a model says so.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UsageError
from .windows import window_mean


class Noise(Protocol):
    """A noise model."""

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy pictures for `clean` (N, C, Y, X) on 0..1; same shape."""


@runtime_checkable
class _Clipping(Noise, Protocol):
    """A noise model that knows the mean of its noisy pictures, as it is not `clean`."""

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See the function of this name."""


@dataclass(frozen=True)
class Range:
    """A parameter that is drawn for each picture, uniformly or in the logarithm."""

    low: float
    high: float
    logarithmic: bool = False

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """One value a picture, shaped to broadcast over `clean`."""
        u = torch.rand(len(clean), 1, 1, 1, generator=generator, device=clean.device)
        if self.logarithmic and self.low > 0:
            return self.low * (self.high / self.low) ** u
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class Gaussian:
    """White Gaussian noise; SIGMA on the 0..255 scale."""

    sigma: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        sigma = self.sigma.draw(clean, generator) / 255
        return clean + sigma * _normal(clean, generator)


@dataclass(frozen=True)
class Poisson:
    """Photon counting; PEAK is the mean count at white."""

    peak: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        peak = self.peak.draw(clean, generator)
        return torch.poisson(clean.clamp(min=0) * peak, generator=generator) / peak


@dataclass(frozen=True)
class PoissonGaussian:
    """Shot and read noise: variance SHOT * x + READ with x on 0..1.

    Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting", TIP 2008.
    """

    shot: Range
    read: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        shot, read = self.shot.draw(clean, generator), self.read.draw(clean, generator)
        return clean + (shot * clean.clamp(min=0) + read).sqrt() * _normal(clean, generator)


@dataclass(frozen=True)
class Speckle:
    """Multiplicative noise: x + x * n, n of variance VARIANCE."""

    variance: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        scale = self.variance.draw(clean, generator).sqrt()
        return clean + clean * scale * _normal(clean, generator)


@dataclass(frozen=True)
class SaltPepper:
    """A fraction AMOUNT of the samples set to 0 or 1, half of them each."""

    amount: Range

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        amount = self.amount.draw(clean, generator)
        u = torch.rand(clean.shape, generator=generator, device=clean.device)
        noisy = torch.where(u < amount / 2, torch.zeros_like(clean), clean)
        return torch.where(u > 1 - amount / 2, torch.ones_like(clean), noisy)


@dataclass(frozen=True)
class Correlated:
    """Gaussian noise of SIGMA (0..255 scale), blurred to a correlation of WIDTH pixels.

    The share SHARED of its variance is the same in all channels, as in the grain of a film.
    """

    sigma: Range
    width: Range = Range(0.5, 1.5)
    shared: Range = Range(0.0, 0.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        width = self.width.draw(clean, generator)
        noise = _normal(clean, generator)
        if self.shared.high:
            shared = self.shared.draw(clean, generator)
            common = _normal(clean[:, :1], generator)
            noise = shared.sqrt() * common + (1 - shared).clamp(min=0).sqrt() * noise
        noise = _blur(noise, width)
        noise = noise / noise.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        return clean + self.sigma.draw(clean, generator) / 255 * noise


@dataclass(frozen=True)
class Stripes:
    """Each row brighter or darker by Gaussian noise of SIGMA (0..255 scale), or each column.

    As sensors have it that are read out row by row: banding, row noise. Half of the pictures have
    rows, the others columns. The share SHARED of its variance is the same in all channels.
    """

    sigma: Range
    shared: Range = Range(0.0, 1.0)

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        count = len(clean)
        down = torch.rand(count, 1, 1, 1, generator=generator, device=clean.device) < 0.5
        shared = self.shared.draw(clean, generator)
        rows, columns = (
            shared.sqrt() * _normal(line[:, :1], generator)
            + (1 - shared).clamp(min=0).sqrt() * _normal(line, generator)
            for line in (clean[..., :1], clean[..., :1, :])
        )
        return clean + self.sigma.draw(clean, generator) / 255 * torch.where(down, rows, columns)


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
        return _blur(picture, sigma, "replicate"), _blur(mean, sigma, "replicate")


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
        return self.sample(picture, generator), _mean_clipped(mean, variance)


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
        noise = variance.sqrt() * _normal(clean, generator)
        if channels == 3:
            to_srgb = torch.linalg.inv(to_sensor)
            sites = _bayer(clean, generator)
            if self.edges.high:
                edges = self.edges.draw(clean, generator)
                seen, expected = (raw + noise).clamp(0, 1), _mean_clipped(raw, variance)
                linear = linear + _recolor(gains * (expected - raw), to_srgb)
                followed = _demosaic_along_edges(gains * seen, sites)
                followed = followed - _demosaic_along_edges(gains * expected, sites)
                noise = (1 - edges) * gains * _demosaic(seen - expected, sites) + edges * followed
            else:
                noise = gains * _demosaic(noise, sites)
            noise = _recolor(noise, to_srgb)
            variance = _recolor(gains**2 * variance, to_srgb**2)  # but for what demosaicing does
        noisy = _developed(linear + noise, 1 / 2.2)
        variance = variance * (noise.square().mean((2, 3), True) / variance.mean((2, 3), True))
        mean = mean + _mean_clipped(linear, variance, 1 / 2.2) - clean
        if not self.smoothed.high:
            return noisy, mean
        smoothed = self.smoothed.draw(clean, generator)
        gray = (noisy - clean).mean(dim=1, keepdim=True)
        color = noisy - clean - gray
        left = _blur(gray, smoothed) + _blur(color, _COLOR_BLUR * smoothed)
        return (clean + left).clamp(0, 1), mean


@dataclass(frozen=True)
class Chain:
    """Several models one after another, as in ``camera+jpeg:70-95``."""

    models: tuple[Noise, ...]

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        for model in self.models:
            clean = model.sample(clean, generator)
        return clean

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        for model in self.models:
            picture, mean = sample_and_mean(model, picture, mean, generator)
        return picture, mean


@dataclass(frozen=True)
class Mix:
    """One of several models for each picture, drawn by weight."""

    models: tuple[Noise, ...]
    weights: tuple[float, ...]

    def sample(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return self.sample_and_mean(clean, clean, generator)[0]

    def sample_and_mean(
        self, picture: Tensor, mean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        weights = torch.tensor(self.weights, device=picture.device)
        chosen = torch.multinomial(weights, len(picture), replacement=True, generator=generator)
        noisy, expected = torch.empty_like(picture), torch.empty_like(mean)
        for index, model in enumerate(self.models):
            members = chosen == index
            if members.any():
                noisy[members], expected[members] = sample_and_mean(
                    model, picture[members], mean[members], generator
                )
        return noisy, expected


def sample_and_mean(
    noise: Noise, picture: Tensor, mean: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A noisy picture, and what many such pictures are on average.

    Black clips noise, so the average of many shots of a dark place is brighter than the place. It
    is what can be told from a noisy picture, and what pictures taken as clean ones are.

    Parameters
    ----------
    noise : Noise
        The mean is changed by models with a method of this name.
    picture, mean : Tensor (N, C, Y, X)
        On 0..1; a picture to which noise may have been added before, and the mean of such.

    Returns
    -------
    noisy, mean : Tensor (N, C, Y, X)
    """
    if isinstance(noise, _Clipping):
        return noise.sample_and_mean(picture, mean, generator)
    return noise.sample(picture, generator), mean


MEASURED = "measured:"

_Builder = Callable[..., Noise]

# name -> (how to build it from ranges, how the arguments are written)
NOISES: dict[str, tuple[_Builder, str]] = {
    "gaussian": (Gaussian, "SIGMA"),
    "poisson": (Poisson, "PEAK"),
    "poisson-gaussian": (PoissonGaussian, "SHOT,READ"),
    "speckle": (Speckle, "VARIANCE"),
    "salt-pepper": (SaltPepper, "AMOUNT"),
    "correlated": (Correlated, "SIGMA[,WIDTH[,SHARED]]"),
    "stripes": (Stripes, "SIGMA[,SHARED]"),
    "jpeg": (JPEG, "QUALITY"),
    "clip": (Clip, ""),
    "defocus": (Defocus, "SIGMA"),
    "camera": (Camera, "[SHOT[,SMOOTHED[,EDGES]]]"),
}


def written(name: str) -> str:
    """How the noise `name` of `NOISES` is written, as in ``camera[:SHOT[,SMOOTHED[,EDGES]]]``."""
    arguments = NOISES[name][1]
    if arguments.startswith("["):
        return f"{name}[:{arguments[1:]}"
    return f"{name}:{arguments}" if arguments else name


def softens(noise: Noise) -> bool:
    """Whether the picture itself is changed, by `noise` or a model that it is made of."""
    parts = noise.models if isinstance(noise, Chain | Mix) else ()
    return isinstance(noise, Defocus) or any(map(softens, parts))


def parse(spec: str) -> Noise:
    """The noise model a specification names.

    ``gaussian:25``, ``gaussian:0-55``, ``poisson:5-50``, ``poisson-gaussian:0.01,0.0004``,
    ``correlated:5-40,0.5-1.5``, ``camera``; ``A+B`` applies one after the other, and
    ``mix:A*WEIGHT/B*WEIGHT`` draws one for each picture. ``measured:PATH`` is noise measured from
    frames, see `denoise_cli.measured.measure`; it stands alone.

    Raises
    ------
    UsageError
        If a name is unknown or an argument is no number or range.
    """
    if spec.startswith(MEASURED):
        from .measured import measure

        return measure(spec.removeprefix(MEASURED))
    if spec.startswith("mix:"):
        parts = [part.rpartition("*") for part in spec[4:].split("/")]
        models = tuple(parse(name if star else weight) for name, star, weight in parts)
        weights = tuple(_number(w, spec) if star else 1.0 for _, star, w in parts)
        return Mix(models, weights)
    if "+" in spec:
        return Chain(tuple(parse(part) for part in spec.split("+")))
    name, _, text = spec.partition(":")
    if name not in NOISES:
        known = ", ".join(map(written, NOISES))
        raise UsageError(
            f"unknown noise {spec!r}; known are {known}, A+B, mix:A*W/B*W and measured:PATH"
        )
    builder, _ = NOISES[name]
    # A camera's shot noise spans decades.
    ranges = [
        _range(part, spec, logarithmic=name == "camera" and not index)
        for index, part in enumerate(text.split(",") if text else ())
    ]
    try:
        return builder(*ranges)
    except TypeError:
        raise UsageError(f"noise {spec!r} is not written {written(name)}") from None


def _number(text: str, spec: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"noise {spec!r}: {text!r} is no number of 0 or more")
    return value


def _range(text: str, spec: str, logarithmic: bool) -> Range:
    low, dash, high = text.partition("-")
    if text.count("-") > 1 or "e-" in text:  # 1e-4 or 1e-4-3e-2
        return _scientific_range(text, spec, logarithmic)
    first = _number(low, spec)
    return Range(first, _number(high, spec) if dash else first, logarithmic)


def _scientific_range(text: str, spec: str, logarithmic: bool) -> Range:
    for at, letter in enumerate(text):
        if letter == "-" and at and text[at - 1] not in "eE":
            low, high = _number(text[:at], spec), _number(text[at + 1 :], spec)
            return Range(low, high, logarithmic)
    return Range(_number(text, spec), _number(text, spec), logarithmic)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


# The middles of sixteen slices of a normal distribution that are equally likely.
_SLICES = torch.special.ndtri((torch.arange(16) + 0.5) / 16).tolist()


def _mean_clipped(linear: Tensor, variance: Tensor, power: float = 1.0) -> Tensor:
    """The mean of ``(linear + noise).clamp(0, 1) ** power`` under Gaussian noise."""
    spread = variance.clamp(min=0).sqrt()
    total = torch.zeros_like(linear)  # one by one: sixteen large pictures are much memory
    for z in _SLICES:
        total += _developed(linear + z * spread, power)
    return total / len(_SLICES)


def _developed(linear: Tensor, power: float) -> Tensor:
    return linear.clamp(0, 1) ** power


def _blur(pictures: Tensor, width: Tensor, edges: str = "circular") -> Tensor:
    """Blur each picture by a Gaussian of its own standard deviation, in pixels."""
    count, channels, rows, columns = pictures.shape
    reach = torch.arange(-4, 5, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (reach / width.reshape(-1, 1).clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = pictures.reshape(1, count * channels, rows, columns)
    flat = F.pad(flat, (4, 4, 4, 4), mode=edges)
    groups = count * channels
    flat = F.conv2d(flat, kernel.reshape(groups, 1, 9, 1), groups=groups)
    flat = F.conv2d(flat, kernel.reshape(groups, 1, 1, 9), groups=groups)
    return flat.reshape(count, channels, rows, columns)


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


_CROSS = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))
_PLUS = ((0.0, 0.25, 0.0), (0.25, 1.0, 0.25), (0.0, 0.25, 0.0))


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


def _jpeg(samples: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    gray = samples.shape[-1] == 1
    buffer = io.BytesIO()
    Image.fromarray(samples[..., 0] if gray else samples).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer))
    return decoded[..., None] if gray else decoded
