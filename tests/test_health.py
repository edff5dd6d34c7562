"""What is said of a denoised picture when what was taken away was not noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photo
from scipy.ndimage import gaussian_filter

from denoise_cli import Denoiser, noise
from denoise_cli.health import complaint


def leaves(size: int = 256) -> np.ndarray:
    """A picture (3, Y, X) of edges at all scales: leaves over leaves, each of one color."""
    random, picture = np.random.default_rng(0), np.zeros((3, size, size), np.float32)
    rows, columns = np.mgrid[0:size, 0:size]
    for _ in range(60):
        y, x, radius = *random.uniform(0, size, 2), random.uniform(20, 80)
        leaf = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        picture[:, leaf] = random.uniform(0.2, 0.8, (3, 1))
    return picture


def pictures(spec: str, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """A clean and a noisy picture (3, Y, X)."""
    clean = leaves(size)
    generator = torch.Generator().manual_seed(1)
    noisy = noise.parse(spec).sample(torch.from_numpy(clean)[None], generator)
    return clean, noisy[0].numpy()


@pytest.mark.parametrize(
    "spec",
    ["gaussian:2", "gaussian:40", "poisson:20", "correlated:20,1", "speckle:0.05", "camera:0.001"],
)
def test_noise_alone_is_no_reason_to_complain(spec: str) -> None:
    clean, noisy = pictures(spec)
    assert complaint(noisy, clean) is None


def test_lost_detail_is_told() -> None:
    clean, noisy = pictures("gaussian:5")
    blurred = gaussian_filter(clean, (0, 2, 2))
    assert "detail" in str(complaint(noisy, blurred))


@pytest.mark.parametrize("period", [3, 8])
def test_a_mesh_that_is_gone_is_told(period: int) -> None:
    clean, noisy = pictures("gaussian:10")
    y, x = np.mgrid[0:256, 0:256]
    mesh = 0.03 * np.cos(2 * np.pi * y / period) * np.cos(2 * np.pi * x / period)
    meshed = noisy + (mesh * (x < 160)).astype(np.float32)
    assert "mesh" in str(complaint(meshed, clean))
    assert complaint(noisy, clean) is None


def test_banding_is_no_pattern() -> None:
    clean, noisy = pictures("gaussian:10+stripes:6")
    assert complaint(noisy, clean) is None


def test_a_changed_brightness_is_told() -> None:
    clean, noisy = pictures("gaussian:20")
    assert "brighter, by 2.0%" in str(complaint(noisy, clean + np.float32(0.02)))
    assert "darker" in str(complaint(noisy, clean - np.float32(0.03)))


def test_dust_that_is_gone_is_no_change_of_brightness() -> None:
    clean, noisy = pictures("gaussian:10")
    dusty = noisy.copy()
    dusty[:, np.random.default_rng(1).random(noisy.shape[1:]) < 0.04] = 0
    assert complaint(dusty, clean) is None
    assert "brighter, by 2.0%" in str(complaint(dusty, clean + np.float32(0.02)))


def test_a_page_that_is_blank_in_the_middle_is_no_reason_to_complain() -> None:
    noisy = np.ones((1, 1700, 1700), np.float32)
    noisy[:, :64] += np.random.default_rng(0).normal(0, 0.1, (64, 1700)).astype(np.float32)
    denoised = np.ones_like(noisy)
    assert complaint(noisy, denoised) is None


def test_a_picture_that_stays_as_it_is_is_told() -> None:
    clean, _ = pictures("gaussian:1")
    assert "next to nothing" in str(complaint(clean, clean))


def test_of_a_tiny_picture_nothing_is_said() -> None:
    tiny = np.zeros((1, 20, 300), np.float32)
    assert complaint(tiny, tiny) is None


def test_blank_slices_of_a_stack_are_no_reason_to_complain() -> None:
    _, noisy = pictures("gaussian:20")
    stack = np.stack([np.zeros_like(noisy[0]), noisy[0]])
    result = Denoiser("none").run(stack, "ZYX")
    assert result.samples[0].std() < 0.01
    assert result.warning is None


def test_the_command_warns_on_stderr_and_in_json(call: Any, folder: Path) -> None:
    """A network that was never trained."""
    photo(shape=(128, 128, 3))
    code, out, lines = call("photo.png", "-m", "none", "--json")
    warning = json.loads(out)["warning"]
    assert code == 0
    assert warning
    assert f"denoise: photo.png: warning: {warning}" in lines
