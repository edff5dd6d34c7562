"""Noisy and clean images, found by name or made from clean ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..image import Image
from ..io import read
from . import files
from .score import pictures, read_reference


@dataclass(frozen=True)
class Pair:
    """A noisy image and its clean one, read when needed.

    Attributes
    ----------
    name : str
        File name of the noisy image, or of the clean one that noise is added to.
    noise : str or None
        The noise specification; None for images that are noisy by themselves.
    load : callable
        -> (noisy image, clean pictures (1, Y, X, C) on 0..1).
    """

    name: str
    noise: str | None
    load: Callable[[], tuple[Image, np.ndarray]]


def synthetic(clean: Path, specs: list[str], *, seed: int, limit: int | None) -> list[Pair]:
    """Each image of the folder `clean` with each noise of `specs`.

    The noise depends on `seed` and the file's name alone, so neither order nor `limit` change it.
    """
    from ..noise import parse, softens

    models = [(spec, parse(spec)) for spec in specs]
    for spec, model in models:
        if softens(model):
            raise UsageError(f"{spec}: defocus changes the clean picture; it is for training")
    paths = spread(files.expand(clean), limit)
    return [
        Pair(path.name, spec, _Synthetic(path, model, seed))
        for spec, model in models
        for path in paths
    ]


def real(noisy: Path, clean: Path, *, limit: int | None) -> list[Pair]:
    """The images of two folders (which may be one), paired by `match`."""
    pairs = match(files.expand(noisy), files.expand(clean))
    return [Pair(path.name, None, _Real(path, truth)) for path, truth in spread(pairs, limit)]


def match(noisy: list[Path], clean: list[Path]) -> list[tuple[Path, Path]]:
    """Pair files by their stems: equal, ``X_real`` with ``X_mean``, or ``X_<digits>`` with ``X``.

    Raises
    ------
    UsageError
        If a file has no partner; the message names all of them.
    """
    by_stem = {path.stem: path for path in clean}
    pairs, used = [], set()
    for path in noisy:
        partner = next((by_stem[s] for s in _partners(path.stem) if s in by_stem), None)
        if partner is not None and partner != path:
            pairs.append((path, partner))
            used |= {path, partner}
    alone = sorted(path.name for path in {*noisy, *clean} - used)
    if alone:
        raise UsageError(f"no partner by name for {', '.join(alone)}")
    return pairs


def spread(items: list[Any], limit: int | None) -> list[Any]:
    """`limit` of the `items`, evenly spread, first and last among them; all without a limit."""
    if limit is None or limit >= len(items):
        return items
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, limit)]


def _partners(stem: str) -> list[str]:
    if stem.endswith("_real"):
        return [stem.removesuffix("_real") + "_mean", stem]
    return [stem, re.sub(r"_\d+$", "", stem)]


@dataclass(frozen=True)
class _Synthetic:
    path: Path
    model: Any
    seed: int

    def __call__(self) -> tuple[Image, np.ndarray]:
        import torch

        image = read(self.path)
        if image.metadata.view is not None:
            raise UsageError(f"{self.path}: is a camera raw file; --noise is added to pictures")
        clean = pictures(image.samples, image.axes)
        digest = hashlib.sha256(f"{self.seed}/{self.path.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        planes = torch.from_numpy(np.moveaxis(clean, -1, 1).copy())
        noisy = np.moveaxis(self.model.sample(planes, generator).numpy(), 1, -1)
        return _as_image(noisy), clean


@dataclass(frozen=True)
class _Real:
    path: Path
    truth: Path

    def __call__(self) -> tuple[Image, np.ndarray]:
        noisy: Image = read(self.path)
        return noisy, read_reference(self.truth, noisy)


def _as_image(planes: np.ndarray) -> Image:
    """Pictures (N, Y, X, C) -> the smallest array that holds them."""
    axes = ("" if len(planes) == 1 else "Z") + "YX" + ("" if planes.shape[-1] == 1 else "S")
    samples = planes[0] if len(planes) == 1 else planes
    return Image(np.ascontiguousarray(samples if axes.endswith("S") else samples[..., 0]), axes)
