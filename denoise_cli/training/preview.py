"""A picture of how far a training has come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

GAP = 8


def write(path: Path, pictures: Sequence[np.ndarray]) -> None:
    """Write `pictures` (C, Y, X) on 0..1 side by side: noisy, denoised, clean."""
    from PIL import Image

    height = pictures[0].shape[1]
    gap = np.ones((height, GAP, 3))
    columns: list[np.ndarray] = []
    for picture in pictures:
        columns += [np.broadcast_to(np.moveaxis(picture, 0, -1), (*picture.shape[1:], 3)), gap]
    sheet = np.concatenate(columns[:-1], axis=1).clip(0, 1)
    temporary = path.with_name(f".{path.name}")
    Image.fromarray(np.rint(sheet * 255).astype(np.uint8)).save(temporary, "PNG")
    os.replace(temporary, path)
