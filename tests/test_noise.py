"""Noise models: what they add is what their specification says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoise_cli import noise
from denoise_cli.errors import UsageError


def sample(spec: str, clean: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return noise.parse(spec).sample(clean, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [5, 25, 70])
def test_gaussian_has_its_sigma_and_is_not_clipped(sigma: int) -> None:
    clean = torch.full((2, 3, 64, 64), 0.05)
    added = sample(f"gaussian:{sigma}", clean) - clean
    assert added.std().item() * 255 == pytest.approx(sigma, rel=0.02)
    assert abs(added.mean().item()) < 0.01
    assert sample("gaussian:70", clean).min() < 0


def test_poisson_and_shot_noise_grow_with_the_signal() -> None:
    dark, bright = torch.full((1, 1, 128, 128), 0.1), torch.full((1, 1, 128, 128), 0.9)
    for value, picture in ((0.1, dark), (0.9, bright)):
        counts = sample("poisson:20", picture)
        assert counts.var().item() == pytest.approx(value / 20, rel=0.06)
        shot = sample("poisson-gaussian:0.01,0.0004", picture) - picture
        assert shot.var().item() == pytest.approx(0.01 * value + 0.0004, rel=0.06)
        speckle = sample("speckle:0.04", picture) - picture
        assert speckle.var().item() == pytest.approx(0.04 * value**2, rel=0.06)


def test_salt_pepper_hits_its_share() -> None:
    clean = torch.full((1, 3, 128, 128), 0.5)
    noisy = sample("salt-pepper:0.05", clean)
    assert (noisy != clean).float().mean().item() == pytest.approx(0.05, rel=0.1)
    assert set(noisy.unique().tolist()) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("shared", [0.0, 0.4, 1.0])
def test_a_share_of_salt_pepper_is_in_all_channels(shared: float) -> None:
    clean = torch.full((1, 3, 256, 256), 0.5)
    noisy = sample(f"salt-pepper:0.1,{shared}", clean)
    hit = noisy != clean
    assert hit.float().mean().item() == pytest.approx(0.1, rel=0.05)
    same = (noisy == noisy[:, :1]).all(dim=1) & hit.any(dim=1)
    expected = 0.1 * shared + 2 * 0.05**3 * (1 - shared)
    assert same.float().mean().item() == pytest.approx(expected, rel=0.1, abs=2e-4)


def test_correlated_noise_is_correlated_and_has_its_sigma() -> None:
    clean = torch.zeros(2, 3, 128, 128)
    added = sample("correlated:20,1", clean).numpy()
    assert added.std() * 255 == pytest.approx(20, rel=0.02)
    lag = (added[..., 1:] * added[..., :-1]).mean() / added.var()
    assert lag > 0.6
    white = sample("gaussian:20", clean).numpy()
    assert abs((white[..., 1:] * white[..., :-1]).mean() / white.var()) < 0.02


def test_stripes_are_rows_or_columns_of_their_sigma() -> None:
    added = sample("stripes:20,0", torch.zeros(40, 3, 64, 64))
    assert added.std().item() * 255 == pytest.approx(20, rel=0.03)
    rows = (added == added[..., :1]).all(dim=-1).all(dim=-1).all(dim=-1)
    columns = (added == added[..., :1, :]).all(dim=-1).all(dim=-1).all(dim=-1)
    assert (rows ^ columns).all()
    assert 8 < rows.sum() < 32
    gray = sample("stripes:20,1", torch.zeros(2, 3, 64, 64))
    assert torch.equal(gray, gray[:, :1].expand_as(gray))


@pytest.mark.parametrize("shared", [0.0, 0.6, 1.0])
def test_channels_share_as_much_of_their_noise_as_was_said(shared: float) -> None:
    added = sample(f"correlated:20,1,{shared}", torch.zeros(4, 3, 128, 128)).numpy()
    assert added.std() * 255 == pytest.approx(20, rel=0.02)
    between = [np.corrcoef(one[0].ravel(), one[2].ravel())[0, 1] for one in added]
    assert np.mean(between) == pytest.approx(shared, abs=0.05)


def test_camera_noise_is_correlated_between_pixels_and_stays_a_picture() -> None:
    clean = torch.full((2, 3, 128, 128), 0.4)
    noisy = sample("camera:0.01", clean)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    added = (noisy - clean).numpy()
    assert (added[..., 1:] * added[..., :-1]).mean() / added.var() > 0.2
    assert sample("camera:0.01", clean[:, :1]).shape == clean[:, :1].shape


def test_camera_noise_takes_the_colors_of_a_sensor_and_keeps_gray() -> None:
    clean = torch.full((8, 3, 128, 128), 0.5)
    added = (sample("camera:0.005", clean) - clean).numpy()
    assert np.abs(added.mean(axis=(2, 3))).max() < 0.02
    # Demosaicing puts the noise of green into all channels, the color matrix takes it off again.
    red, green, blue = added.std(axis=(0, 2, 3))
    assert green < 0.7 * min(red, blue)


def test_the_mosaic_of_camera_noise_begins_with_any_of_its_four_pixels() -> None:
    added = (sample("camera:0.005", torch.full((24, 3, 64, 64), 0.5)) - 0.5).numpy()
    red = added[:, 0].reshape(24, 32, 2, 32, 2).std(axis=(1, 3)).reshape(24, 4)
    assert (red.min(axis=1) < 0.8 * np.median(red, axis=1)).all()
    assert set(red.argmin(axis=1)) == {0, 1, 2, 3}


def test_noise_reduction_of_a_camera_leaves_coarse_color() -> None:
    clean = torch.full((4, 3, 128, 128), 0.5)
    plain, smoothed = (
        (sample(spec, clean) - clean).numpy() for spec in ("camera:0.01", "camera:0.01,1")
    )
    assert smoothed.std() < 0.6 * plain.std()

    def lag(noise: np.ndarray) -> float:
        color = noise[:, 0] - noise[:, 2]
        return float((color[..., 2:] * color[..., :-2]).mean() / color.var())

    assert lag(smoothed) > 0.6 > lag(plain) + 0.3


def test_bilateral_noise_reduction_spares_texture_and_the_noise_in_it() -> None:
    clean = torch.full((2, 3, 64, 128), 0.5)
    texture = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    clean[..., 64:] += 0.6 * (texture - 0.5)
    plain, reduced = (
        sample(spec, clean) - clean for spec in ("gaussian:10", "gaussian:10+bilateral:1.5,1.5,0")
    )
    flat, textured = ((part.std() / plain.std()).item() for part in reduced.split(64, dim=-1))
    assert flat < 0.4
    assert textured > 1.5 * flat
    assert reduced.mean(dim=(2, 3)).abs().max() < 0.004  # brightness stays, of texture too
    kept = sample("gaussian:10+bilateral:1.5,1.5,1", clean) - clean
    assert torch.allclose(kept, plain, atol=1e-6)
    assert torch.allclose(sample("bilateral:2", clean), clean)


def test_demosaicing_along_edges_is_no_linear_one() -> None:
    """A linear one makes of Gaussian noise Gaussian noise; one that chooses makes heavier tails."""
    clean = torch.full((4, 3, 128, 128), 0.5)
    tails = {}
    for edges in (0, 1):
        added = (sample(f"camera:0.002,0,{edges}", clean) - clean).numpy()
        assert np.abs(added.mean(axis=(2, 3))).max() < 0.01
        # Between neighbors, so that what the mosaic does to the variance of a site counts less.
        change = added[:, 1, :, 1:] - added[:, 1, :, :-1]
        tails[edges] = float((change**4).mean() / (change**2).mean() ** 2)
    assert tails[1] > tails[0] + 0.2


def test_demosaicing_along_edges_gives_back_a_smooth_picture() -> None:
    ramp = torch.linspace(0.2, 0.8, 64).expand(2, 3, 64, 64)
    noisy = sample("camera:1e-7,0,1", ramp)
    assert (noisy - ramp)[..., 3:-3, 3:-3].abs().max() < 0.02


def test_clip_keeps_what_a_file_of_8_bits_keeps() -> None:
    clean = torch.full((1, 1, 64, 64), 0.02)
    free, kept = sample("gaussian:20", clean), sample("gaussian:20+clip", clean)
    assert free.min() < 0 == kept.min()
    assert torch.equal(kept, (free.clamp(0, 1) * 255).round() / 255)
    with pytest.raises(UsageError, match="clip"):
        noise.parse("clip:3")


def test_defocus_softens_the_picture_before_its_noise_and_not_the_noise() -> None:
    clean = torch.zeros(2, 3, 64, 64)
    clean[..., 32:] = 0.8
    generator = torch.Generator().manual_seed(0)
    spec = noise.parse("defocus:2+gaussian:25")
    noisy, soft = noise.sample_and_mean(spec, clean, clean, generator)
    steepest = (soft[..., 1:] - soft[..., :-1]).amax(dim=-1)
    assert steepest.max() < 0.2 < 0.8 == (clean[..., 1:] - clean[..., :-1]).max()
    assert torch.allclose(soft[..., :20], clean[..., :20])  # flat places stay, the edges too
    assert torch.allclose(soft[..., 44:], clean[..., 44:])
    added = (noisy - soft).numpy()
    assert added.std() == pytest.approx(25 / 255, rel=0.05)
    assert abs((added[..., 1:] * added[..., :-1]).mean()) / added.var() < 0.05


@pytest.mark.parametrize(("spec", "expected"), [
    ("defocus:1", True), ("defocus:1+camera", True), ("mix:clip/jpeg:80+defocus:1*2", True),
    ("camera+jpeg:80", False), ("mix:gaussian:5/clip", False),
])  # fmt: skip
def test_a_model_says_whether_it_softens_the_picture(spec: str, expected: bool) -> None:
    assert noise.softens(noise.parse(spec)) == expected


@pytest.mark.parametrize(
    "spec",
    [
        "camera:0.02",
        "camera:0.005,0-1",
        "camera:0.01,0,1",
        "camera:0.01+bilateral:1-2",
        "poisson-gaussian:0.02,0.005+clip",
        "mix:camera",
    ],
)
@pytest.mark.parametrize("level", [0.0, 0.02, 0.5, 1.0])
def test_the_mean_of_clipped_noise_is_known(spec: str, level: float) -> None:
    clean = torch.full((12, 3, 256, 256), level)
    generator = torch.Generator().manual_seed(0)
    noisy, mean = noise.sample_and_mean(noise.parse(spec), clean, clean, generator)
    shift = (noisy - clean).mean(dim=(2, 3))
    assert (noisy - mean).mean(dim=(2, 3)).abs().max() < 0.005 + 0.15 * shift.abs().max()
    assert torch.equal(noisy, sample(spec, clean))
    if level == 0:
        assert shift.min() > 0.004


def test_the_mean_follows_the_picture() -> None:
    clean = torch.linspace(0, 0.3, 64).expand(1, 3, 64, 64)
    generator = torch.Generator().manual_seed(0)
    _, mean = noise.sample_and_mean(noise.parse("camera:0.02"), clean, clean, generator)
    shift = (mean - clean)[0, 1, 0]
    assert shift[0] > 0.05
    assert shift[0] > 2 * shift[16] > 4 * shift[48]


@pytest.mark.parametrize("spec", ["gaussian:25", "camera:0.01", "camera:0.01+jpeg:80"])
def test_the_mean_does_not_tell_the_noise_at_hand(spec: str) -> None:
    clean = torch.full((4, 3, 64, 64), 0.05)
    generator = torch.Generator().manual_seed(0)
    noisy, mean = noise.sample_and_mean(noise.parse(spec), clean, clean, generator)
    assert (mean.std(dim=(2, 3)) < 1e-3 * noisy.std(dim=(2, 3))).all()


def test_jpeg_makes_an_eight_bit_picture() -> None:
    clean = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    coded = sample("jpeg:50", clean)
    levels = coded * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    assert 0.01 < (coded - clean).std() < 0.3
    assert sample("jpeg:50", clean[:, :1]).shape == (2, 1, 32, 32)


def test_a_range_is_drawn_for_each_picture() -> None:
    clean = torch.zeros(64, 1, 32, 32)
    spread = sample("gaussian:0-50", clean).std(dim=(1, 2, 3)) * 255
    assert spread.min() < 8
    assert spread.max() > 42


def test_chain_applies_one_after_the_other() -> None:
    clean = torch.full((1, 3, 32, 32), 0.5)
    chained = sample("gaussian:25+jpeg:90", clean)
    assert 10 < (chained - clean).std().item() * 255 < 30
    levels = chained * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_mix_draws_by_weight() -> None:
    clean = torch.full((400, 1, 8, 8), 0.5)
    noisy = sample("mix:gaussian:0*3/salt-pepper:1*1", clean)
    untouched = (noisy == clean).flatten(1).all(dim=1).float().mean().item()
    assert untouched == pytest.approx(0.75, abs=0.08)


def test_same_seed_same_noise() -> None:
    clean = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    spec = "mix:gaussian:0-55/camera+jpeg:60-95/poisson:5-50"
    np.testing.assert_array_equal(sample(spec, clean, 3), sample(spec, clean, 3))
    assert not np.array_equal(sample(spec, clean, 3), sample(spec, clean, 4))


def test_scientific_ranges() -> None:
    model = noise.parse("poisson-gaussian:1e-4-3e-2,1e-5")
    assert isinstance(model, noise.PoissonGaussian)
    assert (model.shot.low, model.shot.high) == (1e-4, 3e-2)
    assert (model.read.low, model.read.high) == (1e-5, 1e-5)


@pytest.mark.parametrize(
    "spec", ["", "rain:5", "gaussian", "gaussian:", "gaussian:x", "gaussian:-5", "gaussian:1,2",
             "mix:", "gaussian:nan", "jpeg:"],
)  # fmt: skip
def test_a_bad_specification_is_named(spec: str) -> None:
    with pytest.raises(UsageError):
        noise.parse(spec)
