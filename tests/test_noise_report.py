"""The noise report against noise of known parameters, on pictures with edges and texture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from denoise_cli import noise_report
from denoise_cli.noise import parse

SIDE = 512


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """A picture (3, Y, X) on 0..1 with slopes, edges, blobs and a textured quarter."""
    generator = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    layers = []
    for channel in range(3):
        plane = 0.15 + 0.6 * (x * 0.7 + y * 0.3)
        for _ in range(25):
            top, left, radius = generator.uniform(0, 1, 3) * (1, 1, 0.09)
            inside = (y - top) ** 2 + (x - left) ** 2 < radius**2
            plane = np.where(inside, generator.uniform(0.15, 0.85), plane)
        texture = 0.1 * np.sin(2 * np.pi * (31 + channel) * x) * np.sin(2 * np.pi * 27 * y)
        layers.append(plane + texture * ((x > 0.5) & (y > 0.5)))
    return np.clip(np.stack(layers), 0.08, 0.92).astype(np.float32)


def noisy(clean: np.ndarray, spec: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(3)
    sampled: np.ndarray = parse(spec).sample(torch.from_numpy(clean)[None], generator)[0].numpy()
    return sampled


@pytest.mark.parametrize("sigma", [3, 10, 25, 50])
def test_level_of_white_noise(clean: np.ndarray, sigma: float) -> None:
    report = noise_report.measure(noisy(clean, f"gaussian:{sigma}"))
    assert report.sigma == pytest.approx(sigma / 255, rel=0.05)
    assert report.blur == 0
    assert max(map(abs, report.across + report.down)) < 0.06
    assert abs(report.color) < 0.06
    assert report.impulses == 0
    assert report.grid is None
    assert report.clipped_low == report.clipped_high == 0
    assert np.array(report.spectrum[3:]) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(("shot", "read"), [(0.02, 0.0005), (0.01, 0.001), (0.005, 0.00005)])
def test_shot_and_read_noise(clean: np.ndarray, shot: float, read: float) -> None:
    report = noise_report.measure(noisy(clean, f"poisson-gaussian:{shot},{read}"))
    assert report.shot == pytest.approx(shot, rel=0.1)
    for x in (0.2, 0.5, 0.8):
        expected = shot * x + read
        assert report.shot * x + report.read == pytest.approx(expected, rel=0.08)
    measured = np.interp([0.2, 0.5, 0.8], report.brightness, report.deviation)
    assert measured == pytest.approx(np.sqrt(shot * np.array([0.2, 0.5, 0.8]) + read), rel=0.08)


def test_constant_noise_has_no_shot_part(clean: np.ndarray) -> None:
    report = noise_report.measure(noisy(clean, "gaussian:20"))
    assert report.shot * 1 < 0.15 * report.read


@pytest.mark.parametrize("blur", [0.5, 0.7, 1.0])
def test_correlated_noise(clean: np.ndarray, blur: float) -> None:
    """Against the correlation that the noise really has, and the blur it was made with."""
    spec = f"correlated:20,{blur}"
    noise = noisy(np.full_like(clean, 0.5), spec) - 0.5
    report = noise_report.measure(noisy(clean, spec))
    assert report.sigma == pytest.approx(20 / 255, rel=0.06)
    assert report.blur == pytest.approx(blur, abs=0.1)
    for lag in (1, 2):
        true = (noise[..., lag:] * noise[..., :-lag]).mean() / np.square(noise).mean()
        assert report.across[lag - 1] == pytest.approx(true, abs=0.05)
        true = (noise[:, lag:] * noise[:, :-lag]).mean() / np.square(noise).mean()
        assert report.down[lag - 1] == pytest.approx(true, abs=0.05)
    assert report.spectrum[4] > 1.3 * report.spectrum[-1]


def test_noise_that_is_correlated_one_way_only(clean: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, clean.shape).astype(np.float32)
    report = noise_report.measure(clean + (noise + np.roll(noise, 1, axis=2)) / np.sqrt(2))
    assert report.across[0] == pytest.approx(0.5, abs=0.05)
    assert report.down[0] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("axes", "found"), [
    ((), []), ((2,), ["rows"]), ((1,), ["columns"]), ((1, 2), ["rows", "columns"]),
])  # fmt: skip
def test_bands(clean: np.ndarray, axes: tuple[int, ...], found: list[str]) -> None:
    picture = noisy(clean, "gaussian:12")
    for axis in axes:
        shape = [1, *(1 if k == axis else SIDE for k in (1, 2))]
        picture = picture + np.random.default_rng(axis).normal(0, 9 / 255, shape)
    assert noise_report.measure(picture.astype(np.float32)).bands == found


@pytest.mark.parametrize("blur", [0.7, 1.5, 3.0])
def test_coarse_noise_is_no_bands(clean: np.ndarray, blur: float) -> None:
    assert noise_report.measure(noisy(clean, f"correlated:20,{blur}")).bands == []


def test_noise_that_channels_share(clean: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    gray = generator.normal(0, 0.06, (1, SIDE, SIDE))
    color = generator.normal(0, 0.03, clean.shape)
    report = noise_report.measure((clean + gray + color).astype(np.float32))
    assert report.color == pytest.approx(0.06**2 / (0.06**2 + 0.03**2), abs=0.05)
    assert noise_report.measure(clean[:1]).color is None


@pytest.mark.parametrize("amount", [0.002, 0.02, 0.1, 0.2])
def test_share_of_salt_and_pepper(clean: np.ndarray, amount: float) -> None:
    report = noise_report.measure(noisy(clean, f"salt-pepper:{amount}"))
    assert report.impulses == pytest.approx(amount, rel=0.2)
    assert report.clipped_low == pytest.approx(amount / 2, rel=0.1)
    assert report.clipped_high == pytest.approx(amount / 2, rel=0.1)
    # They do not pass for a level of the noise.
    assert report.sigma < 0.012


@pytest.mark.parametrize("offset", [(0, 0), (3, 5)])
@pytest.mark.parametrize("quality", [30, 60, 80])
def test_grid_of_a_jpeg(clean: np.ndarray, quality: int, offset: tuple[int, int]) -> None:
    textured = noisy(clean, "gaussian:4")
    samples = (np.moveaxis(textured, 0, -1) * 255).round().clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "JPEG", quality=quality)
    decoded = np.moveaxis(np.asarray(Image.open(buffer), np.float32) / 255, -1, 0)
    report = noise_report.measure(decoded[:, offset[1] :, offset[0] :])
    assert report.grid == ((-offset[0]) % 8, (-offset[1]) % 8)
    assert report.blockiness > 1.03


def test_no_grid_without_compression(clean: np.ndarray) -> None:
    for spec in ("gaussian:1", "gaussian:4", "correlated:4,0.8", "poisson:100"):
        assert noise_report.measure(noisy(clean, spec)).grid is None


def test_clipping(clean: np.ndarray) -> None:
    wide = (clean - 0.5) * 1.6 + 0.5
    picture = np.clip(noisy(wide, "gaussian:10"), 0, 1)
    report = noise_report.measure(picture)
    assert report.clipped_low == pytest.approx(np.mean(picture == 0))
    assert report.clipped_high == pytest.approx(np.mean(picture == 1))
    assert report.clipped_high > 0.001
    # Clipped places have less noise; they are not looked at.
    assert report.sigma == pytest.approx(10 / 255, rel=0.08)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 400), (1, 40, 40), (3, 64, 64)])
def test_tiny_pictures_do_not_fail(shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(0).normal(0.5, 0.1, shape).astype(np.float32)
    report = noise_report.measure(picture)
    assert report.sigma is None or report.sigma == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_picture_of_one_value_has_no_noise(value: float) -> None:
    report = noise_report.measure(np.full((3, 300, 300), value, np.float32))
    assert not report.sigma
    assert report.impulses == 0


def test_large_pictures_are_looked_at_in_part_and_alike() -> None:
    generator = np.random.default_rng(1)
    slope = np.linspace(0.2, 0.8, 3000, dtype=np.float32)
    picture = slope[None, :, None] + generator.normal(0, 0.05, (1, 3000, 2500)).astype(np.float32)
    report = noise_report.measure(picture)
    assert report.sigma == pytest.approx(0.05, rel=0.03)


def test_spectrum_of_pure_noise_is_its_variance() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, (1, 256, 256))
    assert np.array(noise_report.spectrum(noise)[3:]) == pytest.approx(0.04, rel=0.12)
