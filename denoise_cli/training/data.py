"""Photographs, pairs of noisy and clean ones -> random patches, kept decoded in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import io
from ..errors import UnreadableImage, UsageError
from ..image import to_planes
from ..normalize import Scale

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue
AHEAD = 3  # batches ready beyond those in the making
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif", ".bmp"}


def load_photos(folder: Path) -> list[np.ndarray]:
    """All pictures below `folder` as 8-bit RGB arrays (Y, X, 3), in the order of their names.

    Raises
    ------
    UsageError
        If there is no such folder, or no picture in it.
    UnreadableImage
        If a picture cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; --data takes a folder of clean photos")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise UsageError(f"{folder}: no pictures in it; --data takes a folder of clean photos")
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_load, paths))


def _load(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UnreadableImage(f"{path}: cannot be read for training ({error})") from None


def split(photos: list[np.ndarray], held_out: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, validation): `held_out` photos evenly spread over the list are kept aside."""
    held_out = min(held_out, len(photos) // 4)
    chosen = {round(i * len(photos) / held_out) for i in range(held_out)} if held_out else set()
    train = [photo for i, photo in enumerate(photos) if i not in chosen]
    return train, [photos[i] for i in sorted(chosen)]


class Patches:
    """Batches of random patches; the batch of a step depends on the seed and the step alone.

    That is what makes a resumed run the same as an uninterrupted one. A share `gray` of the patches
    loses its color, and of these a share `dim` is dimmed and one is blurred, as the pictures of
    microscopes are. Of the others a quarter of that share is dimmed, as at night, and a share
    `recolor` of the rest takes other colors. A share `halve` is halved in size. Processes of
    different `rank` draw different patches.
    """

    def __init__(
        self,
        photos: list[np.ndarray],
        *,
        patch: int,
        batch: int,
        seed: int,
        gray: float,
        dim: float = 0.0,
        recolor: float = 0.0,
        halve: float = 0.25,
        rank: int = 0,
    ) -> None:
        # A photo is drawn as often as its size says, but small ones are not starved.
        self.photos = [p for p in photos if min(p.shape[:2]) >= patch]
        if not self.photos:
            raise UsageError(f"no photo has {patch} pixels on its short side; lower --patch")
        weights = np.array([p.shape[0] * p.shape[1] for p in self.photos], float) ** 0.5
        self.weights = weights / weights.sum()
        self.patch, self.batch = patch, batch
        self.gray, self.dim, self.recolor, self.halve = gray, dim, recolor, halve
        self.seed = (seed, rank) if rank else (seed,)

    def __call__(self, step: int) -> np.ndarray:
        """The patches of one step (N, Y, X, C), of the photos' type."""
        rng = np.random.default_rng((*self.seed, step))
        chosen = rng.choice(len(self.photos), self.batch, p=self.weights)
        first = self.photos[0]
        # In one piece, and asked for first: a batch that is too large fails before work goes in.
        batch = np.empty((self.batch, self.patch, self.patch, first.shape[2]), first.dtype)
        for patch, index in zip(batch, chosen, strict=True):
            patch[...] = self._patch(self.photos[index], rng)
        return batch

    def _patch(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.patch
        # Some patches are halved in size, which sharpens them and rids them of coding artifacts.
        factor = 2 if min(photo.shape[:2]) >= 2 * size and rng.random() < self.halve else 1
        y = rng.integers(photo.shape[0] - factor * size + 1)
        x = rng.integers(photo.shape[1] - factor * size + 1)
        patch = photo[y : y + factor * size, x : x + factor * size]
        if factor == 2:
            halves = patch.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
            patch = np.rint(halves).astype(np.uint8)
        if rng.random() < self.gray:
            patch = gray(patch)
            if rng.random() < self.dim:
                patch = _dimmed(patch, rng)
            if rng.random() < self.dim:
                patch = _defocused(patch, rng)
        elif rng.random() < self.dim / 4:
            patch = _dimmed(patch, rng)
        elif rng.random() < self.recolor:
            patch = _recolored(patch, rng)
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        return np.rot90(patch, int(rng.integers(4)))


def gray(photo: np.ndarray) -> np.ndarray:
    """The luma of `photo` (..., 3), uint8, in all three channels."""
    plane = photo @ np.array(LUMA)
    return np.repeat(np.rint(plane).astype(np.uint8)[..., None], 3, axis=-1)


def luma(pictures: Tensor) -> Tensor:
    """The luma (N, 1, Y, X) of `pictures` (N, 3, Y, X)."""
    weights = pictures.new_tensor(LUMA).reshape(3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def _dimmed(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`patch`, uint8, as in little light: bright objects on a dark ground."""
    power = rng.uniform(1, 3)
    light = np.exp(rng.uniform(np.log(0.1), 0))
    return np.rint(255 * light * (patch / 255) ** power).astype(np.uint8)


def _recolored(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`patch`, uint8, more or less colorful, and with its channels in another order."""
    colorless = gray(patch).astype(float)
    mixed = colorless + rng.uniform(0.3, 2) * (patch - colorless)
    return np.rint(mixed.clip(0, 255)).astype(np.uint8)[..., rng.permutation(3)]


def _defocused(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`patch`, uint8, as a lens shows what lies before or behind its focus."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(patch, sigma=rng.uniform(0.5, 4), axes=(0, 1))


class PairedPatches:
    """Batches of patches of noisy pictures and of their clean ones, as `Patches` draws them.

    Parameters
    ----------
    noisy, clean : list of ndarray (Y, X, 3)
        Float on 0..1, the same sizes pairwise.
    """

    def __init__(
        self,
        noisy: list[np.ndarray],
        clean: list[np.ndarray],
        *,
        patch: int,
        batch: int,
        seed: int,
        rank: int = 0,
    ) -> None:
        joined = [np.concatenate(pair, axis=2) for pair in zip(noisy, clean, strict=True)]
        self.joined = Patches(
            joined, patch=patch, batch=batch, seed=seed, gray=0.0, halve=0.0, rank=rank
        )

    def __call__(self, step: int) -> np.ndarray:
        """The patches of one step: float (2, N, Y, X, 3), noisy and clean."""
        return np.stack(np.split(self.joined(step), 2, axis=-1))


def load_pairs(noisy: Path, clean: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Noisy and clean pictures (Y, X, 3), float on 0..1, of two folders, paired by their names.

    Names pair when they are equal but for the suffix. Each pair is put on the scale of its noisy
    picture, as `denoise` puts a picture it is given.

    Raises
    ------
    UsageError
        If a picture has no partner, or its partner another size.
    DenoiseError
        If a picture cannot be read.
    """
    first, second = _by_stem(noisy), _by_stem(clean)
    alone = sorted((first | second)[stem].name for stem in first.keys() ^ second.keys())
    if alone:
        raise UsageError(f"no partner by name for {', '.join(alone[:5])}")
    pairs: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for stem, path in first.items():
        stored = [_stored(path), _stored(second[stem])]
        if stored[0].shape[:2] != stored[1].shape[:2]:
            raise UsageError(f"{path}: not of the size of {second[stem]}; give pairs of one size")
        scale = Scale.of(stored[0])
        for pictures, samples in zip(pairs, stored, strict=True):
            pictures.append(np.broadcast_to(scale.forward(samples), (*samples.shape[:2], 3)))
    return pairs


def load_noisy(folder: Path) -> list[np.ndarray]:
    """Noisy pictures (Y, X, 3) of `folder`, float on 0..1, each on the scale it is denoised on."""
    pictures = []
    for path in _by_stem(folder).values():
        samples = _stored(path)
        scaled = Scale.of(samples).forward(samples)
        pictures.append(np.broadcast_to(scaled, (*samples.shape[:2], 3)))
    return pictures


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in io.SUFFIXES)
    if not found:
        raise UsageError(f"{folder}: no pictures in it")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in found}


def _stored(path: Path) -> np.ndarray:
    """The first plane of a picture, (Y, X, 1 or 3), as stored."""
    image = io.read(path)
    return np.moveaxis(to_planes(image.samples, image.axes)[0][0], 0, -1)


def prefetch(
    patches: Callable[[int], np.ndarray], first: int, last: int, *, workers: int = 1
) -> Generator[np.ndarray, None, None]:
    """The batches of steps `first`..`last` - 1 in order, made ahead by `workers` threads."""
    waiting: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while first < last or waiting:
                while first < last and len(waiting) < workers + AHEAD:
                    waiting.append(pool.submit(patches, first))
                    first += 1
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def to_tensor(patches: np.ndarray, device: torch.device) -> Tensor:
    """(N, Y, X, 3), uint8 or float on 0..1 -> float (N, 3, Y, X) on 0..1, channels last."""
    pictures = torch.from_numpy(patches).to(device, non_blocking=True).permute(0, 3, 1, 2)
    if pictures.dtype == torch.uint8:
        pictures = pictures.float().div_(255)
    return pictures.float().contiguous(memory_format=torch.channels_last)
