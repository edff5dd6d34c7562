"""Clean photographs -> random patches, kept decoded in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UnreadableImage, UsageError

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

    That is what makes a resumed run the same as an uninterrupted one.
    """

    def __init__(
        self, photos: list[np.ndarray], *, patch: int, batch: int, seed: int, gray: float = 0.2
    ) -> None:
        # A photo is drawn as often as its size says, but small ones are not starved.
        self.photos = [p for p in photos if min(p.shape[:2]) >= patch]
        if not self.photos:
            raise UsageError(f"no photo has {patch} pixels on its short side; lower --patch")
        weights = np.array([p.shape[0] * p.shape[1] for p in self.photos], float) ** 0.5
        self.weights = weights / weights.sum()
        self.patch, self.batch, self.seed, self.gray = patch, batch, seed, gray

    def __call__(self, step: int) -> np.ndarray:
        """The clean patches of one step: uint8 (N, Y, X, 3)."""
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.choice(len(self.photos), self.batch, p=self.weights)
        return np.stack([self._patch(self.photos[i], rng) for i in chosen])

    def _patch(self, photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.patch
        # Some patches are halved in size, which sharpens them and rids them of coding artifacts.
        factor = 2 if min(photo.shape[:2]) >= 2 * size and rng.random() < 0.25 else 1
        y = rng.integers(photo.shape[0] - factor * size + 1)
        x = rng.integers(photo.shape[1] - factor * size + 1)
        patch = photo[y : y + factor * size, x : x + factor * size]
        if factor == 2:
            halves = patch.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
            patch = np.rint(halves).astype(np.uint8)
        if rng.random() < self.gray:
            luma = patch @ np.array([0.299, 0.587, 0.114])
            patch = np.repeat(np.rint(luma).astype(np.uint8)[..., None], 3, axis=2)
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        return np.rot90(patch, int(rng.integers(4)))


def prefetch(patches: Patches, first: int, last: int, ahead: int = 4) -> Iterator[np.ndarray]:
    """The batches of steps `first`..`last` - 1, made ahead in a thread."""
    ready: queue.Queue[np.ndarray | BaseException | None] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(item: np.ndarray | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in range(first, last):
                if stopped.is_set():
                    return
                put(patches(step))
            put(None)
        except BaseException as error:  # handed over to the reader, never swallowed
            put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()


def to_tensor(patches: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (N, Y, X, 3) -> float (N, 3, Y, X) on 0..1, channels last."""
    pictures = torch.from_numpy(patches).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return pictures.float().div_(255).contiguous(memory_format=torch.channels_last)
