"""Rows and columns of a sensor that have the same value from edge to edge."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from test_stripes import quick

from denoise_cli import Denoiser
from denoise_cli.metrics import psnr

SAID = "dead lines filled in"
ROWS, COLUMN = [30, 77, 78], 101


def photo(gray: bool) -> tuple[np.ndarray, np.ndarray]:
    """A photo of 8 bits, and the same under noise."""
    clean = skimage.data.astronaut()[:160, 120:328]
    clean = clean[..., 1] if gray else clean
    noisy = clean + np.random.default_rng(0).normal(0, 8, clean.shape)
    return clean, noisy.round().clip(0, 255).astype(np.uint8)


def quality(clean: np.ndarray, denoised: np.ndarray) -> float:
    """PSNR of pictures of 8 bits."""
    return psnr(clean / 255, denoised / 255)


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize("value", [0, 255, 90])
def test_dead_lines_are_filled_in(gray: bool, value: int) -> None:
    clean, noisy = photo(gray)
    whole = quick().run(noisy)
    assert SAID not in whole.reason
    noisy[ROWS], noisy[:, COLUMN] = value, value
    result = quick().run(noisy)
    assert SAID in result.reason
    assert quality(clean, result.samples) > quality(clean, whole.samples) - 0.8
    assert quality(clean[ROWS], result.samples[ROWS]) > 24
    assert quality(clean[:, COLUMN], result.samples[:, COLUMN]) > 24


def test_each_frame_of_a_stack_has_lines_of_its_own() -> None:
    clean, noisy = photo(gray=True)
    stack = np.stack([noisy, noisy])
    stack[0, 30], stack[1, :, 50] = 0, 255
    result = quick().run(stack, "ZYX")
    assert SAID in result.reason
    assert quality(clean[30], result.samples[0, 30]) > 24
    assert quality(clean[:, 50], result.samples[1, :, 50]) > 24


def test_frames_areas_and_drawings_stay() -> None:
    _, noisy = photo(gray=False)
    framed, banner, bar = noisy.copy(), noisy.copy(), noisy.copy()
    framed[[0, -1]], framed[:, [0, -1]] = 0, 0
    banner[40:52] = 255
    bar[140, 20:120] = 255
    page = np.full((160, 208), 250, np.uint8)
    page[::16], page[:, 40] = 30, 30
    for picture in (framed, banner, bar, page, skimage.data.page(), skimage.data.brick()[:160]):
        assert SAID not in quick().run(picture).reason


def test_lines_at_the_edge_of_a_tile_are_filled_in_as_well() -> None:
    clean, noisy = photo(gray=True)
    noisy[ROWS], noisy[:, COLUMN] = 255, 255
    result = Denoiser("auto", options={"budget": "fast"}, tile=80, overlap=16).run(noisy)
    assert quality(clean[ROWS], result.samples[ROWS]) > 24
    assert quality(clean[:, COLUMN], result.samples[:, COLUMN]) > 24
