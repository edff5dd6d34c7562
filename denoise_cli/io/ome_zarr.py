"""OME-Zarr: images of any axes in chunks (OME-NGFF 0.1 to 0.5, Zarr 2 and 3) and plain Zarr arrays.

Needs the extra "zarr". Reading and writing go by blocks of frames that lie in the same chunks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Array, Metadata, Stack, regrouped
from .extras import needed
from .limits import sample_count
from .reduce import bounds, reduced

NAME = "OME-Zarr"
SUFFIXES = frozenset({".zarr"})
IS_FOLDER = True

DOCUMENTS = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})
ORDER = "TCZYX"  # OME-NGFF 0.4, 3.4: time, then channels, then space
TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
CHUNK = 1024  # side of the chunks of a new store, in pixels
KINDS = "iuf"


def matches(header: bytes) -> bool:
    """Never: it is a folder, see `is_store`."""
    return False


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, or a group or array inside one."""
    return any((path / name).is_file() for name in (".zgroup", ".zarray", "zarr.json"))


@contextmanager
def open(path: Path) -> Iterator[Stack]:
    """Open the full-size array of an image."""
    zarr = needed("zarr", "zarr", UnreadableImage, NAME)
    node, letters, names = _image(zarr.open(path, mode="r"), path)
    array = node if not names else node[names[0]]
    if array.dtype.kind not in KINDS:
        raise UnreadableImage(f"holds samples of type {array.dtype}, which are not read")
    if array.ndim < 2 or 0 in array.shape:
        raise UnreadableImage(f"holds an array of shape {array.shape}, which is no picture")
    if "pickle" in str(array.metadata.to_dict()):  # a codec that runs code of the file
        raise UnreadableImage("its samples are pickled, which is not safe to read; store it anew")
    axes = letters or _plain_axes(array)
    if len(axes) != array.ndim:
        raise UnreadableImage(f"names {len(axes)} axes for {array.ndim} dimensions; mend its axes")
    native = {
        "source": path.resolve(),
        "arrays": [os.path.join(node.path, name) for name in names] or [node.path],
        "kind": (axes, array.shape, array.dtype.name),
        "pixel_size": _pixel_size(node, axes),
    }
    native = {key: value for key, value in native.items() if value}
    dtype = array.dtype.newbyteorder("=")
    metadata = Metadata(format="zarr", native=native)
    stack = Stack(array.shape, axes, dtype, lambda _: np.empty(0), metadata)
    yield replace(stack, frame=_frames(array, stack.leading, dtype))


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if an OME-Zarr cannot hold pictures of this kind."""
    needed("zarr", "zarr", UnwritableOutput, NAME)
    native = stack.metadata.native if stack.metadata.format == "zarr" else {}
    if native.get("kind") == (stack.axes, stack.shape, stack.dtype.name):
        return
    if sample_count(stack) > 1:
        raise UnwritableOutput("OME-Zarr holds channels, not color; write a .tif file")
    if len(set(stack.axes)) < len(stack.axes):
        raise UnwritableOutput(f"OME-Zarr is not written with axes {stack.axes}; write a .tif file")


def write_stack(path: Path, stack: Stack) -> None:
    """Write a store like the one that the stack came from, with everything else it holds."""
    zarr = needed("zarr", "zarr", UnwritableOutput, NAME)
    native = stack.metadata.native if stack.metadata.format == "zarr" else {}
    if native.get("kind") == (stack.axes, stack.shape, stack.dtype.name):
        arrays = _copied(zarr, path, native["source"], native["arrays"])
        order = tuple(range(stack.leading))
    else:
        stack = _planes(stack)
        array, order = _created(zarr, path, stack)
        arrays = [array]
    _fill(arrays[0], iter(stack), stack.shape[: stack.leading], order)
    for full, smaller in pairwise(arrays):
        leading = stack.leading
        shape = smaller.shape[:leading]
        _fill(smaller, _shrunk(full, smaller.shape, leading, stack.dtype), shape, order)


# --- reading ----------------------------------------------------------------------------------


def _image(node: Any, path: Path) -> tuple[Any, str, list[str]]:
    """The group of the image (or array), its axes ("" if unknown) and its arrays by size."""
    if not hasattr(node, "members"):
        return node, "", []
    attributes = dict(node.attrs)
    attributes |= attributes.get("ome", {})
    if "plate" in attributes or "well" in attributes:
        raise UnreadableImage("a plate or well of many images; give one of them, such as A/1/0")
    if "multiscales" not in attributes:
        images = sorted(name for name, _ in node.members() if name.isdigit())
        if "bioformats2raw.layout" in attributes and len(images) == 1:
            return _image(node[images[0]], path)
        if len(images) > 1:
            raise UnreadableImage(f"holds {len(images)} images; give one, such as {path.name}/0")
        raise UnreadableImage("a Zarr group without an OME-NGFF image; give one of its arrays")
    if len(attributes["multiscales"]) > 1:
        raise UnreadableImage("holds several images in one group, which are not read; split them")
    multiscale = attributes["multiscales"][0]
    letters = "".join(_letter(axis) for axis in multiscale.get("axes", list("tczyx")))
    return node, letters, [dataset["path"] for dataset in multiscale["datasets"]]


def _letter(axis: Any) -> str:
    name = axis["name"] if isinstance(axis, dict) else axis
    if name.upper() in ORDER:
        return str(name.upper())
    kind = axis.get("type") if isinstance(axis, dict) else None
    return {"time": "T", "channel": "C"}.get(str(kind), "Q")


def _plain_axes(array: Any) -> str:
    """The axes of an array by itself: its dimension names, or Y and X last."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    letters = [str(name).upper() for name in names or ()]
    if len(letters) == array.ndim and {"Y", "X"} <= set(letters) and len(set("".join(letters))) > 1:
        return "".join(letter if len(letter) == 1 and letter != "S" else "Q" for letter in letters)
    return "Q" * (array.ndim - 2) + "YX"


def _pixel_size(node: Any, axes: str) -> dict[str, tuple[float, str]]:
    """Length and unit of a pixel along each axis that says so."""
    attributes = dict(node.attrs)
    multiscales = (attributes | attributes.get("ome", {})).get("multiscales", [{}])
    multiscale = multiscales[0]
    named = [axis if isinstance(axis, dict) else {} for axis in multiscale.get("axes", [])]
    datasets = multiscale.get("datasets", [{}])
    for transform in datasets[0].get("coordinateTransformations", []):
        if transform.get("type") == "scale" and len(named) == len(axes):
            return {
                letter: (float(size), str(axis["unit"]))
                for letter, size, axis in zip(axes, transform["scale"], named, strict=True)
                if axis.get("unit")
            }
    return {}


def _frames(array: Any, leading: int, dtype: np.dtype[Any]) -> Callable[[int], Array]:
    """Read frames; those in the chunks of the last one read come from memory."""
    depth = _depth(array, leading)
    kept: dict[tuple[int, ...], Array] = {}

    def frame(index: int) -> Array:
        if not leading:
            return np.asarray(array[...], dtype)
        *front, last = (int(i) for i in np.unravel_index(index, array.shape[:leading]))
        key = (*front, last // depth)
        if key not in kept:
            kept.clear()
            start = key[-1] * depth
            kept[key] = np.asarray(array[(*front, slice(start, start + depth))], dtype)
        return kept[key][last % depth]

    return frame


def _depth(array: Any, leading: int) -> int:
    """Frames that lie in the same chunks (or shards) along the last axis in front of a frame."""
    chunks = getattr(array, "shards", None) or array.chunks
    return int(chunks[leading - 1]) if leading else 1


# --- writing ----------------------------------------------------------------------------------


def _copied(zarr: Any, path: Path, source: Path, names: list[str]) -> list[Any]:
    """A copy of the store without the samples of these arrays, which are returned."""
    if not is_store(source):
        raise UnwritableOutput(f"the store it was read from is gone ({source}); bring it back")
    own = {os.path.normpath(source / name) for name in names}

    def ignored(folder: str, entries: list[str]) -> set[str]:
        inside = os.path.normpath(folder)
        return set(entries) - DOCUMENTS if inside in own else set()

    shutil.copytree(source, path, ignore=ignored)
    root = zarr.open(path, mode="r+")
    return [root[name] if name else root for name in names]


def _planes(stack: Stack) -> Stack:
    """The stack with channels that lie inside its pixels in front of them."""
    inside = stack.frame_axes
    order = [axis for axis, letter in enumerate(inside) if letter not in "YX"]
    order += [inside.index("Y"), inside.index("X")]
    letters = "".join(inside[axis] for axis in order)
    shape = tuple(stack.frame_shape[axis] for axis in order)
    moved = replace(
        stack,
        axes=stack.axes[: stack.leading] + letters.replace("S", ""),
        shape=stack.shape[: stack.leading] + shape["S" in letters :],
    )
    shape = moved.shape[stack.leading :]  # without a sole gray sample

    def frame(index: int) -> Array:
        return stack.frame(index).transpose(order).reshape(shape)

    read = regrouped(frame, moved.shape, stack.leading, moved.leading)
    return replace(moved, frame=read)


def _created(zarr: Any, path: Path, stack: Stack) -> tuple[Any, tuple[int, ...]]:
    """A new image of OME-NGFF 0.4, and where each axis in front of a frame goes."""
    others = [letter for letter in stack.axes if letter not in ORDER]
    letters = [letter for letter in "TC" if letter in stack.axes] + others
    letters += [letter for letter in "ZYX" if letter in stack.axes]
    shape = tuple(stack.shape[stack.axes.index(letter)] for letter in letters)
    sizes = stack.metadata.native.get("pixel_size", {})
    axes = []
    for letter in letters:
        axis = {"name": letter.lower(), "type": TYPES.get(letter, "other")}
        axes.append(axis | ({"unit": sizes[letter][1]} if letter in sizes else {}))
    scale = [sizes[letter][0] if letter in sizes else 1.0 for letter in letters]
    transforms = [{"type": "scale", "scale": scale}]
    datasets = [{"path": "0", "coordinateTransformations": transforms}]
    group = zarr.create_group(store=path, zarr_format=2)
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    array = group.create_array(
        "0",
        shape=shape,
        dtype=stack.dtype,
        chunks=(*(1,) * stack.leading, *(min(CHUNK, side) for side in shape[-2:])),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    return array, tuple(stack.axes.index(letter) for letter in letters[:-2])


def _fill(
    array: Any, frames: Iterator[Array], shape: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """Write frames, counted over axes of `shape` that go to the places of `order` in the array.

    Those that lie in the same chunks are written together.
    """
    leading = len(shape)
    if not leading:
        array[...] = next(frames)
        return
    straight = order == tuple(range(leading))
    depth = _depth(array, leading) if straight else 1
    block: list[Array] = []
    for index, frame in enumerate(frames):
        place = tuple(int(i) for i in np.unravel_index(index, shape))
        if not straight:
            array[tuple(place[i] for i in order)] = frame
            continue
        block.append(frame)
        last = place[-1]
        if (last + 1) % depth == 0 or last + 1 == shape[-1]:
            array[(*place[:-1], slice(last + 1 - len(block), last + 1))] = np.stack(block)
            block.clear()


def _shrunk(
    full: Any, shape: tuple[int, ...], leading: int, dtype: np.dtype[Any]
) -> Iterator[Array]:
    """Frames of a smaller array of `shape`: every sample the mean of those that it stands for."""
    read = _frames(full, leading, dtype)
    steps = [
        bounds(large, small)
        for small, large in zip(shape[:leading], full.shape[:leading], strict=True)
    ]
    for place in np.ndindex(*shape[:leading]):
        ranges = [range(s[i], s[i + 1]) for s, i in zip(steps, place, strict=True)]
        members = np.array(np.meshgrid(*ranges, indexing="ij")).reshape(leading, -1).T
        indices = [int(np.ravel_multi_index(m, full.shape[:leading])) for m in members] or [0]
        axes = (full.ndim - leading - 2, full.ndim - leading - 1)
        total = np.zeros(shape[leading:])
        for index in indices:
            total += reduced(read(index), shape[-2:], axes)
        mean = total / len(indices)
        yield (np.rint(mean) if dtype.kind in "iu" else mean).astype(dtype)
