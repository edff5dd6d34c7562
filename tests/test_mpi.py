"""MPI: filling in hidden pixels denoises, whatever the size and the colors of the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_validation import scene

from denoise_cli import Denoiser, checkpoints, networks, noise
from denoise_cli.errors import UsageError
from denoise_cli.methods.mpi import _shuffle, _unshuffle


def checkpoint(folder: Path, **config: Any) -> str:
    torch.manual_seed(0)
    network = networks.build("hourglass", **{"width": 16, "scales": 3, **config})
    path = folder / "mpi.safetensors"
    checkpoints.save(path, network, {"network": "hourglass", "supports": ["mpi"]}, half=False)
    return str(path)


def noisy_and_clean(side: int = 96, sigma: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    clean = np.moveaxis(scene(side)[0].numpy(), 0, -1)
    grain = np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    return clean + sigma * grain, clean


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean())


def test_it_denoises_even_from_random_weights(tmp_path: Path) -> None:
    noisy, clean = noisy_and_clean()
    result = Denoiser("mpi", weights=checkpoint(tmp_path), steps=160).run(noisy)
    assert mse(result.samples, clean) < 0.5 * mse(noisy, clean)
    assert 0 < result.kept_step <= result.steps <= 160


def test_masks_shared_by_the_channels(tmp_path: Path) -> None:
    noisy, clean = noisy_and_clean()
    weights = checkpoint(tmp_path, inputs=4)
    denoised = Denoiser("mpi", weights=weights, steps=160, options={"mask_ratio": 0.5})(noisy)
    assert mse(denoised, clean) < 0.6 * mse(noisy, clean)


def test_gray_in_a_color_network_does_not_show_what_is_hidden(tmp_path: Path) -> None:
    noisy, clean = noisy_and_clean()
    noisy, clean = noisy[..., 0], clean[..., 0]
    denoised = Denoiser("mpi", weights=checkpoint(tmp_path), steps=160)(noisy)
    assert denoised.shape == noisy.shape
    # Copied from the other channels, the noise would be all there.
    assert mse(denoised, clean) < 0.7 * mse(noisy, clean)


@pytest.mark.parametrize("shape", [(5, 7, 3), (20, 33), (9, 41)])
def test_small_and_odd_sizes(shape: tuple[int, ...], tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    denoiser = Denoiser("mpi", weights=checkpoint(tmp_path), steps=2, options={"downsample": 2})
    result = denoiser(noisy)
    assert result.shape == shape
    assert result.dtype == np.uint16
    assert np.array_equal(result, denoiser(noisy))


def test_phases_keep_their_colors() -> None:
    picture = torch.arange(2 * 3 * 5 * 7, dtype=torch.float32).reshape(2, 3, 5, 7)
    phases = _unshuffle(picture, 2)
    assert phases.shape == (8, 3, 3, 4)
    assert torch.equal(phases[1, :, :2, :3], picture[0, :, :4:2, 1::2])
    assert torch.equal(_shuffle(phases, 2, picture.shape), picture)


def test_tiles_share_the_networks(tmp_path: Path) -> None:
    noisy, clean = noisy_and_clean(192)
    weights = checkpoint(tmp_path)
    whole = Denoiser("mpi", weights=weights, steps=60)(noisy)
    tiled = Denoiser("mpi", weights=weights, steps=60, tile=96, overlap=32)(noisy)
    assert mse(whole, tiled) < 0.1 * mse(whole, clean) + 1e-4


def test_it_keeps_the_networks_of_before_it_got_worse(tmp_path: Path) -> None:
    noisy, clean = noisy_and_clean(32, sigma=0.3)
    options = {"preset": "full", "beta": 0.9, "lr": 2e-2}  # too much, and too many steps
    weights = checkpoint(tmp_path, width=32)
    stopped = Denoiser("mpi", weights=weights, steps=200, options=options).run(noisy)
    every = Denoiser("mpi", weights=weights, steps=200, options={**options, "validate": False})
    assert stopped.kept_step < stopped.steps < 200
    assert mse(every(noisy), clean) > mse(noisy, clean) > 2 * mse(stopped.samples, clean)


def test_own_samples_are_weighed_in_under_white_noise(tmp_path: Path) -> None:
    noisy, clean = noisy_and_clean()
    weights = checkpoint(tmp_path)
    with_own, without = (
        Denoiser("mpi", weights=weights, steps=60, options={"own": own}).run(noisy)
        for own in (True, False)
    )
    assert "own samples" in with_own.reason
    assert "own samples" not in without.reason
    assert mse(with_own.samples, clean) < 0.95 * mse(without.samples, clean)


# The first part asked is all but in the texture.
@pytest.mark.parametrize("seed", [4, pytest.param(2, marks=pytest.mark.slow)])
def test_own_samples_are_weighed_in_beside_texture_that_no_fill_gets_right(seed: int) -> None:
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(512), np.arange(256))
    clean = 0.5 + 0.2 * np.sin(across / 60) * np.cos(down / 45)
    white = rng.standard_normal((256, 300))
    fur = gaussian_filter(white, 0.9) - gaussian_filter(white, 1.8)
    clean[:, :300] += 0.05 * fur / fur.std()
    noisy = clean + 10 / 255 * rng.standard_normal(clean.shape)
    method = Denoiser("mpi", steps=1, seed=seed, options={"passes": 4})
    assert "own samples" in method.run(noisy.astype(np.float32)).reason


@pytest.mark.parametrize("spec", ["poisson:20", "correlated:25,1", "salt-pepper:0.05"])
def test_they_are_not_under_other_noise(spec: str, tmp_path: Path) -> None:
    _, clean = noisy_and_clean(128)
    pictures = torch.from_numpy(clean).movedim(-1, 0)[None]
    noisy = noise.parse(spec).sample(pictures, torch.Generator().manual_seed(0))
    result = Denoiser("mpi", weights=checkpoint(tmp_path), steps=2).run(
        noisy[0].movedim(0, -1).numpy()
    )
    assert "own samples" not in result.reason


@pytest.mark.parametrize("lr", [0.3, 1e30])  # the second one ends in no numbers
def test_no_step_is_kept_where_none_gains(lr: float) -> None:
    noisy, clean = noisy_and_clean()
    result = Denoiser("mpi", weights="mpi", steps=20, options={"lr": lr}).run(noisy)
    assert (result.kept_step, result.steps) == (0, 20)
    assert mse(result.samples, clean) < 0.3 * mse(noisy, clean)


@pytest.mark.parametrize(
    "options", [{"preset": "slow"}, {"beta": 1.0}, {"downsample": 3}, {"passes": 0}, {"crop": 8}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Denoiser("mpi", weights="ttt-mim", options=options)
