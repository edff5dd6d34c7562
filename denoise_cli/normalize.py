"""Between stored samples and what a network sees; each forward has its inverse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


BAND = 256  # rows that are converted at a time
LEAST_BITS = 8  # that a file is taken to use
# Shares of samples at either end (hot pixels, stars) that are no part of the bulk; and of those
# below it that may be dead.
FEW, DEAD = 0.01, 0.001
# Integers are scaled by the bulk of them where it needs so many bits less. Below more than so many
# times the range of the bulk is a pedestal: as little contrast is left as networks never learned.
FEWER_BITS, PEDESTAL = 2, 2.0
# Integer samples of a plane that tell where the bulk lies; of a stack so many times fewer.
LOOKED_AT, FEWER = 2**18, 16
# What lies farther outside 0..1 than noise that was added to it comes nearer, the more the farther
# it is: as 30 or 100, a star spoils what networks make of everything around it, by up to 10 dB.
# Softened by 1 to 5, it does not; the more, the less sure is its own brightness: within 3 % by 2.
FAR, SOFTENING = 1.0, 2.0
LARGEST = 80.0  # exponent that float32 holds


@dataclass(frozen=True)
class Scale:
    """A map of stored samples to about 0..1, linear from -1 to 2; it never clips.

    Integers keep their full range (8 bit by 255), but for a file that uses few bits of its type
    (12 bit in 16, a dark exposure) the largest power of two minus one that holds it, so that the
    network sees the contrast it was trained on; one sample in a hundred may lie far beyond. What
    is below all of them (a signed file stored as unsigned, the black of a camera) is taken off.
    Float pictures inside 0..1 stay as they are; others are mapped from their own range. If some
    are beyond -1 or 2, the map is logarithmic there.
    """

    offset: float
    gain: float
    softens: bool = False

    @classmethod
    def of(cls, samples: np.ndarray, *, whole: bool = False) -> Scale:
        """The scale for these samples (integer or float; any shape).

        If `whole`, for all of them from 0 on: one on which levels of noise can be told.
        """
        found = SampleRange(samples.dtype)
        found.add(samples)
        return found.scale(whole=whole)

    def forward(self, samples: np.ndarray) -> np.ndarray:
        """Stored samples -> float32 about 0..1."""
        values = np.empty(samples.shape, np.float32)
        # Part by part: double precision of a whole photo at once would double the memory.
        for index in _bands(samples.shape):
            exact = (samples[index].astype(np.float64) - self.offset) / self.gain
            values[index] = _softened(exact) if self.softens else exact
        return values

    def inverse(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Float about 0..1 -> stored samples, rounded and clipped to what `dtype` holds."""
        samples = np.empty(values.shape, dtype)
        for index in _bands(values.shape):
            exact = values[index].astype(np.float64)
            exact = (_hardened(exact) if self.softens else exact) * self.gain + self.offset
            if dtype.kind != "f":
                limits = np.iinfo(dtype)
                exact = np.clip(np.rint(exact), limits.min, limits.max)
            samples[index] = exact
        return samples


class SampleRange:
    """What the scale of many samples depends on, gathered piece by piece.

    Of float samples every `share`-th is kept to tell where their bulk lies, of integers fewer.
    """

    def __init__(self, dtype: np.dtype, share: int = 1) -> None:
        if dtype.kind not in "uif":
            raise UsageError(f"samples of type {dtype} cannot be denoised; use integers or floats")
        self._dtype, self._share = dtype, share
        self._low = self._high = 0.0
        self._kept: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """Take further samples into account."""
        self._low = min(self._low, float(samples.min()))
        self._high = max(self._high, float(samples.max()))
        some, share = samples, self._share
        if self._dtype.kind != "f":
            if self._dtype.itemsize == 1:
                return
            step = math.ceil((samples.size / LOOKED_AT) ** 0.5)
            some, share = np.atleast_2d(samples)[..., ::step, ::step], FEWER * (share - 1) + 1
        kept = some.ravel()[::share]
        # A view would keep all frames of a stack.
        self._kept.append(kept.copy() if share > 1 else kept)

    def scale(self, *, whole: bool = False) -> Scale:
        """The scale for all samples so far; see `Scale.of`."""
        is_float = self._dtype.kind == "f"
        found = self._of_float(whole=whole) if is_float else self._of_integers(whole=whole)
        lowest, highest = ((v - found.offset) / found.gain for v in (self._low, self._high))
        return replace(found, softens=lowest < -FAR or highest > 1 + FAR)

    def _of_integers(self, *, whole: bool) -> Scale:
        offset = self._low
        most = np.iinfo(self._dtype).max
        if whole or not self._kept:
            return Scale(offset, _holding(self._high - offset, most))
        bottom, _, top = self._bulk()
        if bottom - offset > PEDESTAL * (top - bottom) > 0:
            offset = float(math.floor(bottom))
        gain, enough = _holding(self._high - offset, most), _holding(top - offset, most)
        return Scale(offset, enough if enough <= gain / 2**FEWER_BITS else gain)

    def _of_float(self, *, whole: bool) -> Scale:
        # Noise added in float leaves 0..1 at both ends, so the bulk of the samples decides.
        bottom, low, high = self._bulk()
        if low >= -0.5 and 0.1 <= high <= 1.5:
            return Scale(0.0, 1.0)
        if self._low == self._high:
            return Scale(0.0, abs(self._high) or 1.0)
        offset = min(low, 0.0)
        if not whole and bottom - offset > PEDESTAL * (high - bottom) > 0:
            offset = bottom
        # Of a blank picture with a few spots, these tell.
        top = high if high > offset else self._high
        return Scale(offset, max(top - offset, 1e-12))

    def _bulk(self) -> tuple[float, float, float]:
        """What all samples but the dead ones reach; what all but few reach, and do not exceed."""
        kept = self._kept[0] if len(self._kept) == 1 else np.concatenate(self._kept)
        bottom, low, high = np.quantile(kept, (DEAD, FEW, 1 - FEW))
        return float(bottom), float(low), float(high)


def _holding(value: float, most: int) -> float:
    """The power of two minus one that holds `value`, if the type does."""
    return float(min(2 ** max(int(value).bit_length(), LEAST_BITS) - 1, most))


def _softened(values: np.ndarray) -> np.ndarray:
    """The same from -1 to 2, and nearer to that beyond."""
    beyond = _beyond(values)
    softer: np.ndarray = np.sign(beyond) * np.log1p(SOFTENING * np.abs(beyond)) / SOFTENING
    return values - beyond + softer


def _hardened(values: np.ndarray) -> np.ndarray:
    """The inverse of `_softened`."""
    beyond = _beyond(values)
    exponents = np.minimum(SOFTENING * np.abs(beyond), LARGEST)
    harder: np.ndarray = np.sign(beyond) * np.expm1(exponents) / SOFTENING
    return values - beyond + harder


def _beyond(values: np.ndarray) -> np.ndarray:
    return values - np.clip(values, -FAR, 1 + FAR)


def _bands(shape: tuple[int, ...]) -> Iterator[tuple[int | slice, ...]]:
    """Indices of bands of rows of all planes (..., Y, X); of other arrays, of everything."""
    if len(shape) < 2:
        yield ()
        return
    for plane in np.ndindex(shape[:-2]):
        for top in range(0, shape[-2], BAND):
            yield (*plane, slice(top, top + BAND))


@dataclass(frozen=True)
class Standardization:
    """Per-channel mean and standard deviation that a checkpoint was trained with."""

    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, C, Y, X) on 0..1 -> what the network sees."""
        if self._is_identity():
            return pictures
        return (pictures - self._like(self.mean, pictures)) / self._like(self.std, pictures)

    def inverse(self, pictures: Tensor) -> Tensor:
        """The exact inverse of `forward`."""
        if self._is_identity():
            return pictures
        return pictures * self._like(self.std, pictures) + self._like(self.mean, pictures)

    def _is_identity(self) -> bool:
        return set(self.mean) == {0.0} and set(self.std) == {1.0}

    @staticmethod
    def _like(values: Sequence[float], pictures: Tensor) -> Tensor:
        return pictures.new_tensor(values).reshape(1, -1, 1, 1)
