"""Noise measured from frames: its numbers are found again, and its samples have them."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
from test_validation import scene

from denoise_cli import noise
from denoise_cli.errors import UsageError
from denoise_cli.measured import LAGS, Measured, measure, plot

PHOTONS, WHITE_READ, ROW_READ = 80.0, 0.02, 0.03
SHOT, READ = 1 / PHOTONS, WHITE_READ**2 + ROW_READ**2


def sensor(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photon noise and read noise, most of it the same along each row; (Y, X, ...) on 0..1."""
    rows = rng.standard_normal((picture.shape[0],) + (1,) * (picture.ndim - 1))
    grain = rng.standard_normal(picture.shape)
    photons = rng.poisson(picture * PHOTONS) / PHOTONS
    return photons + WHITE_READ * grain + ROW_READ * rows


def store(path: Path, picture: np.ndarray) -> None:
    tifffile.imwrite(path, np.rint(picture.clip(0, 1) * 65535).astype(np.uint16))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    for index in range(4):
        store(folder / f"dark{index}.tif", sensor(np.full((256, 256), 0.15), rng))
        store(folder / f"flat{index}.tif", sensor(np.full((256, 256), 0.6), rng))
    return folder


@pytest.fixture(scope="module")
def model(calibration: Path) -> Measured:
    return measure(calibration)


def test_levels_and_correlation_are_found(model: Measured) -> None:
    assert model.frames == 8
    assert model.static
    assert model.is_gray
    assert model.shot[LAGS, LAGS] == pytest.approx(SHOT, rel=0.1)
    assert model.read[LAGS, LAGS] == pytest.approx(READ, rel=0.25)
    along, across = model.read[LAGS, LAGS + 1 :], model.read[LAGS + 1 :, LAGS]
    assert along.mean() == pytest.approx(ROW_READ**2, rel=0.25)
    assert abs(across.mean()) < 0.05 * READ
    assert abs(model.shot[LAGS, LAGS + 1]) < 0.05 * SHOT


def test_samples_have_what_was_measured(model: Measured) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((6, 1, 160, 200), 0.4)
    made = model.sample(clean, generator) - clean
    assert made.var().item() == pytest.approx(0.4 * SHOT + READ, rel=0.15)
    rows = made.mean(dim=-1).var().item()
    assert rows == pytest.approx(ROW_READ**2, rel=0.35)
    assert abs(made.mean().item()) < 0.01
    again = model.sample(clean, torch.Generator().manual_seed(0))
    assert torch.equal(again - clean, made)


def test_flat_parts_of_single_pictures_will_do(tmp_path: Path) -> None:
    picture = np.moveaxis(scene(256)[0].numpy(), 0, -1).clip(0, 1)
    rng = np.random.default_rng(1)
    store(tmp_path / "a.tif", picture + 0.05 * rng.standard_normal(picture.shape))
    store(tmp_path / "b.tif", picture[::-1] + 0.05 * rng.standard_normal(picture.shape))
    model = measure(tmp_path)
    assert not model.static
    assert not model.is_gray
    total = 0.5 * model.shot + model.read
    assert total[LAGS, LAGS] ** 0.5 == pytest.approx(0.05, rel=0.15)
    assert np.abs(model.colors - np.eye(3)).max() < 0.15


def test_it_is_a_noise_specification(calibration: Path) -> None:
    model = noise.parse(f"measured:{calibration}")
    noisy = model.sample(torch.full((1, 1, 64, 64), 0.5), torch.Generator().manual_seed(0))
    assert noisy.std() > 0.03


def test_the_plot_shows_something(model: Measured, tmp_path: Path) -> None:
    plot(model, tmp_path / "noise.png")
    drawn = iio.imread(tmp_path / "noise.png")
    assert drawn.shape[2] == 3
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20


def test_nothing_to_measure_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures there"):
        measure(tmp_path)
    store(tmp_path / "small.tif", np.full((20, 20), 0.5))
    with pytest.raises(UsageError, match="short side"):
        measure(tmp_path)
