"""Stacks as planes: the scale of each channel, a sample to adapt to, and the work on frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .errors import UsageError
from .image import Array, Stack, to_planes
from .normalize import SampleRange, Scale

if TYPE_CHECKING:
    from torch import Tensor

    from .methods.base import Adaptation

# Of a stack with more samples, evenly spread frames up to this number are what is adapted to.
SAMPLE = 2**24
# Of the float samples of a stack, so many tell where the bulk of a channel lies.
BULK = 2**22


def channels(stack: Stack, index: int) -> list[int]:
    """The channel of each plane in the frame of this index; 0 where there are no channels."""
    leading, inside = stack.axes[: stack.leading], stack.frame_axes
    if "C" in leading:
        place = np.unravel_index(index, stack.shape[: stack.leading])
        channel = np.full(1, place[leading.index("C")])
    else:
        channel = np.zeros(1, int)
    # Planes of a frame are counted as in `to_planes`: by its axes other than S, Y and X.
    others = [axis for axis, letter in enumerate(inside) if letter not in "SYX"]
    sizes = [stack.frame_shape[axis] for axis in others]
    if "C" not in leading and "C" in inside:
        where = [inside[axis] for axis in others].index("C")
        channel = np.indices(sizes)[where]
    return [int(value) for value in np.broadcast_to(channel, sizes or 1).ravel()]


def scales(stack: Stack) -> dict[int, Scale]:
    """The scale of each channel over the whole stack, by one pass through it.

    Raises
    ------
    UsageError
        Samples are NaN, infinite, or of a type that cannot be denoised.
    """
    found: dict[int, SampleRange] = {}
    share = math.ceil(math.prod(stack.shape) / BULK) if stack.count > 1 else 1
    for index, frame in enumerate(stack):
        planes, _ = to_planes(frame, stack.frame_axes)
        members = np.array(channels(stack, index))
        for channel in np.unique(members).tolist():
            chosen = planes if (members == channel).all() else planes[members == channel]
            if chosen.dtype.kind == "f" and not np.isfinite(chosen).all():
                raise UsageError("the picture holds NaN or infinite values; replace them first")
            found.setdefault(channel, SampleRange(stack.dtype, share)).add(chosen)
    return {channel: samples.scale() for channel, samples in found.items()}


def sample(stack: Stack, scale: dict[int, Scale]) -> Array:
    """Planes (N, C, Y, X), float32 about 0..1, of frames evenly spread over the stack."""
    count = min(stack.count, max(SAMPLE // math.prod(stack.frame_shape), 1))
    chosen = np.unique(np.linspace(0, stack.count - 1, count).round().astype(int))
    frames = [_scaled(stack, int(index), scale) for index in chosen]
    return frames[0] if len(frames) == 1 else np.concatenate(frames)


def _scaled(stack: Stack, index: int, scale: dict[int, Scale]) -> Array:
    planes, _ = to_planes(stack.frame(index), stack.frame_axes)
    members = channels(stack, index)
    if len(set(members)) == 1:
        return scale[members[0]].forward(planes)
    return np.stack([scale[c].forward(p) for c, p in zip(members, planes, strict=True)])


def plane_count(stack: Stack) -> int:
    """Number of planes in all frames."""
    return math.prod(
        size for size, letter in zip(stack.shape, stack.axes, strict=True) if letter not in "SYX"
    )


class Work:
    """A stack being denoised: adapted to once or plane by plane, and predicted frame by frame.

    Parameters
    ----------
    stack : Stack
        What is denoised.
    adapt : callable
        Adapts to planes (N, C, Y, X), float32 about 0..1.
    predict : callable or None
        Predicts one plane (1, C, Y, X) with an adaptation, given the number of those before it;
        None gives every frame back exactly as it is.
    once : bool
        Adapt once, to a sample of the stack, which is done at once.

    Attributes
    ----------
    done : list of Adaptation
        What came of the adaptations so far.
    seconds, seconds_adapt : float
        Time spent so far, and the adaptations' part of it.
    """

    def __init__(
        self,
        stack: Stack,
        adapt: Callable[[Array], Adaptation],
        predict: Callable[[Adaptation, Array, int], Array] | None,
        *,
        once: bool,
    ) -> None:
        self._stack, self._adapt_to, self._predict = stack, adapt, predict
        self._once = once or plane_count(stack) == 1
        self.done: list[Adaptation] = []
        self.seconds = self.seconds_adapt = 0.0
        started = time.perf_counter()
        self._scales = scales(stack)
        if self._once:
            self._adapt(sample(stack, self._scales))
        self.seconds += time.perf_counter() - started

    def frame(self, index: int) -> Array:
        """The denoised frame of this index; all are asked for in order."""
        samples = self._stack.frame(index)
        started = time.perf_counter()
        planes, from_planes = to_planes(samples, self._stack.frame_axes)
        denoised = np.empty_like(planes)
        for number, channel in enumerate(channels(self._stack, index)):
            before = index * len(planes) + number
            part = slice(number, number + 1)
            denoised[part] = self._denoised(planes[part], channel, before)
        result = from_planes(denoised)
        self.seconds += time.perf_counter() - started
        return result

    def _denoised(self, plane: Array, channel: int, before: int) -> Array:
        """One plane (1, C, Y, X) of stored samples, denoised."""
        scale = self._scales[channel] if self._once else Scale.of(plane)
        noisy = scale.forward(plane)
        adaptation = self.done[0] if self._once else self._adapt(noisy)
        if self._predict is None:
            return plane
        return scale.inverse(self._predict(adaptation, noisy, before), plane.dtype)

    def _adapt(self, noisy: Array) -> Adaptation:
        started = time.perf_counter()
        adaptation = self._adapt_to(noisy)
        self.seconds_adapt += time.perf_counter() - started
        # Of an adaptation to one plane only what is said of it is kept: a network is large.
        self.done.append(adaptation if self._once else replace(adaptation, predict=_gone))
        return adaptation


def _gone(pictures: Tensor) -> Tensor:
    raise AssertionError("the adaptation to this plane is over")
