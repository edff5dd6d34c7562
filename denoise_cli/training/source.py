"""Where the patches of a training come from: clean photos and a noise, pairs, or noisy pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..measured import Measured
from ..noise import Noise, sample_and_mean
from .data import (
    PairedPatches,
    Patches,
    gray,
    load_noisy,
    load_pairs,
    load_photos,
    luma,
    split,
    to_tensor,
)

HELD_OUT = 12
HELD_OUT_SIDE = 256

StrPath = str | os.PathLike[str]


@dataclass
class Source:
    """Pictures to train on and pictures held out, with or without a noise to add.

    Attributes
    ----------
    photos : list of ndarray (Y, X, 3)
        Clean ones (uint8); or noisy ones (float on 0..1).
    clean : list of ndarray or None
        The clean ones, if `photos` are the noisy halves of pairs.
    held_out : list of ndarray
        Batches as `patches` gives them, of one centered part of a picture each.
    noise : Noise or None
        What is added; None: the pictures go in as they are.
    channels : int
        Of the network.
    name : str
        Of the folder.
    """

    photos: list[np.ndarray]
    clean: list[np.ndarray] | None
    held_out: list[np.ndarray]
    noise: Noise | None
    channels: int
    name: str

    @classmethod
    def open(
        cls,
        *,
        data: StrPath | None,
        pairs: tuple[StrPath, StrPath] | None,
        noisy: StrPath | None,
        val: StrPath | None,
        noise: Noise | None,
        channels: int,
        multiple: int,
    ) -> Source:
        """Read the pictures of `data`, of the folders `pairs`, or of `noisy`; one is given."""
        clean: list[np.ndarray] | None = None
        kept: list[np.ndarray] = []
        if pairs:
            noisy_ones, clean_ones = load_pairs(Path(pairs[0]), Path(pairs[1]))
            photos, first = split(noisy_ones, HELD_OUT)
            clean, second = split(clean_ones, HELD_OUT)
            kept = [
                np.stack([_centre(n, multiple), _centre(c, multiple)])[:, None]
                for n, c in zip(first, second, strict=True)
            ]
        elif data:
            photos = load_photos(Path(data))
            photos, others = (photos, load_photos(Path(val))) if val else split(photos, HELD_OUT)
            kept = [_centre(photo, multiple)[None] for photo in others]
            if channels == 1 or _is_gray(noise):
                kept = [gray(batch) for batch in kept]
        else:
            assert noisy is not None
            photos = load_noisy(Path(noisy))
        folder = Path(data or noisy or (pairs or ("",))[0])
        return cls(photos, clean, kept, noise, channels, folder.name)

    def patches(self, **sizes: Any) -> Callable[[int], np.ndarray]:
        """Batches by step; `sizes` are the ``patch``, ``batch``, ``seed`` and ``rank``."""
        if self.clean is not None:
            return PairedPatches(self.photos, self.clean, **sizes)
        if self.photos[0].dtype.kind == "f":
            # Noisy pictures: averaging their channels or pixels would change their noise.
            return Patches(self.photos, gray=0.0, halve=0.0, **sizes)
        if self.channels == 1 or _is_gray(self.noise):
            return Patches(self.photos, gray=1.0, dim=0.25, **sizes)
        return Patches(self.photos, gray=0.3, dim=0.45, recolor=0.25, **sizes)

    def pictures(self, batch: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch as noisy and clean pictures (N, C, Y, X) on 0..1, on the generator's device."""
        if self.clean is not None:
            noisy, clean = (to_tensor(part, generator.device) for part in batch)
            return noisy[:, : self.channels], clean[:, : self.channels]
        clean = to_tensor(batch, generator.device)[:, : self.channels]
        return (clean, clean) if self.noise is None else add_noise(self.noise, clean, generator)

    def describe(self) -> dict[str, Any]:
        """For a checkpoint's header."""
        count = len(self.photos)
        return {"folder": self.name, "photos": count, "held_out": len(self.held_out)}


def add_noise(noise: Noise, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy pictures for `clean` (N, C, Y, X), and what many of them are on average.

    Gray ones get the same noise in all channels: that is how a gray picture reaches a color
    network, as one plane, repeated. Half of those were taken in color: theirs is the luma of the
    noise of all channels, with what demosaicing and coding make of it.
    """
    pair = sample_and_mean(noise, clean, clean.clone(), generator)
    is_gray = (clean == clean[:, :1]).flatten(1).all(dim=1)
    if clean.shape[1] == 3 and is_gray.any():
        plane = clean[is_gray, :1]
        drawn = torch.rand(len(plane), 1, 1, 1, generator=generator, device=clean.device)
        in_color = (drawn < 0.5) & (not _is_gray(noise))
        for pictures, planes in zip(
            pair, sample_and_mean(noise, plane, plane, generator), strict=True
        ):
            planes = torch.where(in_color, luma(pictures[is_gray]), planes)
            pictures[is_gray] = planes.expand_as(clean[is_gray])
    return pair


def _is_gray(noise: Noise | None) -> bool:
    return isinstance(noise, Measured) and noise.is_gray


def _centre(photo: np.ndarray, multiple: int) -> np.ndarray:
    rows, columns = (min(HELD_OUT_SIDE, n) // multiple * multiple for n in photo.shape[:2])
    y, x = (photo.shape[0] - rows) // 2, (photo.shape[1] - columns) // 2
    return photo[y : y + rows, x : x + columns].copy()
