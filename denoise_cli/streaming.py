"""A stack seen as planes: the scale of each channel, and a sample of planes to adapt to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .errors import UsageError
from .image import Array, Stack, to_planes
from .normalize import SampleRange, Scale

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


def numbered(planes: Array, members: list[int]) -> Iterator[tuple[int, Array, int]]:
    """Number, planes (1, C, Y, X) and channel of each plane of a frame."""
    for number, channel in enumerate(members):
        yield number, planes[number : number + 1], channel
