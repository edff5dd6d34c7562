"""What is particular to TTT-MIM, and how options are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_validation import fixed, scene

from denoise_cli import Denoiser, checkpoints, methods, noise
from denoise_cli.errors import UsageError
from denoise_cli.methods.estimates import has_impulses
from denoise_cli.metrics import psnr


def noisy_scene(spec: str, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    clean = scene(size)
    noisy = noise.parse(spec).sample(clean, torch.Generator().manual_seed(1))
    return tuple(np.moveaxis(p[0].numpy(), 0, -1) for p in (clean, noisy))  # type: ignore[return-value]


def test_adaptation_helps_on_unknown_noise_and_says_by_how_much() -> None:
    clean, noisy = noisy_scene("correlated:30,0.8", 192)
    known = gaussian_only()
    plain = Denoiser("none", weights=known)(noisy)
    result = Denoiser("ttt-mim", weights=known).run(noisy)
    gain = psnr(clean, result.samples) - psnr(clean, plain)
    assert result.kept_step > 0
    assert gain > 0.5
    assert result.gain_db == pytest.approx(gain, abs=max(1.0, 0.6 * gain))


def filaments(size: int = 192) -> np.ndarray:
    """A dark micrograph (Y, X) of thin bright lines on 0..1."""
    random, picture = np.random.default_rng(0), np.zeros((size, size))
    for _ in range(40):
        (y, x), angle = random.uniform(0, size, 2), random.uniform(0, np.pi)
        steps = np.arange(300)
        rows, columns = (
            (y + steps * np.sin(angle)).astype(int),
            (x + steps * np.cos(angle)).astype(int),
        )
        inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
        picture[rows[inside], columns[inside]] += random.uniform(0.2, 1)
    picture = gaussian_filter(picture, 1.2)
    return (0.012 + 0.5 * picture / picture.max()).astype(np.float32)


def test_photon_noise_is_adapted_to_where_that_is_surely_better() -> None:
    """A network trained on photos leaves noise in such a micrograph, though none in flat places."""
    clean = filaments()
    counts = torch.poisson(torch.from_numpy(300 * clean), torch.Generator().manual_seed(1))
    noisy = counts.numpy() / 300
    plain = Denoiser("none")(noisy)
    result = Denoiser("ttt-mim").run(noisy)
    gain = psnr(clean, result.samples) - psnr(clean, plain)
    assert result.kept_step > 0
    assert gain > 1
    # What is sure of it: one standard error of the estimate less.
    assert 0.5 * gain < result.gain_db < gain + 0.3


def test_an_adaptation_keeps_the_brightness() -> None:
    """The median of noise that is clipped in the dark, which is learned from, is below its mean."""
    _, noisy = noisy_scene("poisson-gaussian:0.2,0.02+clip", 192)
    plain = Denoiser("none")(noisy).mean(axis=(0, 1))
    adapted = Denoiser("ttt-mim", steps=4, options={"validate": False})(noisy).mean(axis=(0, 1))
    np.testing.assert_allclose(adapted, plain, atol=0.05 / 255)


def test_spikes_of_few_photons_are_no_impulses() -> None:
    dark = np.arange(192) < 80
    clean = np.where(dark, 0.04, 0.25 + 0.6 * filaments())
    counts = torch.poisson(torch.from_numpy(40 * clean), torch.Generator().manual_seed(1))
    noisy = (counts.numpy() / 40).clip(0, 1).astype(np.float32)
    assert has_impulses(torch.from_numpy(noisy)[None, None])
    assert Denoiser("ttt-mim").run(noisy).steps > 0


@pytest.mark.slow
def test_known_photon_noise_is_left_to_the_pretrained_network() -> None:
    _, noisy = noisy_scene("poisson:60", 192)
    result = Denoiser("ttt-mim").run(noisy)
    assert result.kept_step == 0
    np.testing.assert_array_equal(result.samples, Denoiser("none")(noisy))


def test_known_noise_is_left_to_the_pretrained_network() -> None:
    clean, noisy = noisy_scene("gaussian:25", 192)
    known = gaussian_only()
    plain = Denoiser("none", weights=known)(noisy)
    result = Denoiser("ttt-mim", weights=known).run(noisy)
    assert psnr(clean, result.samples) > psnr(clean, plain) - 0.05
    assert result.steps == 0
    assert "knows this noise" in result.reason


@pytest.mark.parametrize(
    ("spec", "least"),
    [("salt-pepper:0.1", 1), pytest.param("salt-pepper:0.02", 0, marks=pytest.mark.slow)],
)
def test_impulses_are_adapted_to_where_that_is_surely_better(spec: str, least: float) -> None:
    clean, noisy = noisy_scene(spec, 192)
    plain = Denoiser("none")(noisy)
    result = Denoiser("ttt-mim").run(noisy)
    gain = psnr(clean, result.samples) - psnr(clean, plain)
    assert psnr(clean, result.samples) > psnr(clean, noisy) + 10
    assert gain >= least
    assert result.gain_db == pytest.approx(gain, rel=0.2, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["salt-pepper:0.05", "gaussian:4+salt-pepper:0.05+clip"])
def test_impulses_that_the_network_passes_over_are_adapted_to(spec: str) -> None:
    clean, noisy = noisy_scene(spec, 192)
    plain = Denoiser("none", weights=gaussian_only())(noisy)
    assert psnr(clean, plain) < psnr(clean, noisy) + 2
    result = Denoiser("ttt-mim", weights=gaussian_only()).run(noisy)
    gain = psnr(clean, result.samples) - psnr(clean, plain)
    assert gain > 5
    assert result.gain_db == pytest.approx(gain, rel=0.2)


def test_impulses_among_other_noise_never_make_it_worse() -> None:
    """What is not an impulse is taken for clean then, so that no step seems to be better."""
    clean, noisy = noisy_scene("gaussian:4+salt-pepper:0.05", 192)
    result = Denoiser("ttt-mim").run(noisy)
    assert psnr(clean, result.samples) >= psnr(clean, Denoiser("none")(noisy))


@pytest.mark.slow
def test_weak_noise_that_the_network_passes_over_is_learned_from() -> None:
    """Of a camera's JPEG of low ISO, which smooths what is flat."""
    clean, noisy = weakly_noisy()
    result = Denoiser("ttt-mim", weights=gaussian_only()).run(noisy)
    unadapted = Denoiser("none", weights=gaussian_only())(noisy)
    assert result.kept_step > 0
    assert psnr(clean, result.samples) > psnr(clean, unadapted) + 1


def weakly_noisy(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A clean picture, and noisy as a network for Gaussian noise passes it over."""
    sharp = scene(192)
    model = noise.parse("defocus:1+camera:0.0004,0.6,1+jpeg:90")
    noisy, clean = (
        picture[0].movedim(0, -1).numpy()
        for picture in noise.sample_and_mean(model, sharp, sharp, fixed(seed))
    )
    return clean, noisy


def test_what_passes_for_weak_noise_in_a_part_of_the_picture_is_not_learned_from() -> None:
    """Sand, say: noise would be in the rest as well."""
    (_, first), (clean, second) = weakly_noisy(0), weakly_noisy(1)
    beach = np.concatenate([first, second, clean], axis=1)
    result = Denoiser("ttt-mim", weights=gaussian_only()).run(beach)
    np.testing.assert_array_equal(result.samples, Denoiser("none", weights=gaussian_only())(beach))


def test_noise_that_texture_drowns_is_not_learned_from() -> None:
    """What such an adaptation is estimated to win is texture that it takes away."""
    _, noisy = noisy_scene("gaussian:1", 192)
    result = Denoiser("ttt-mim", weights=gaussian_only()).run(noisy)
    assert (result.steps, result.kept_step) == (0, 0)
    assert "too weak" in result.reason


def test_what_little_is_left_of_weak_noise_is_not_learned_from() -> None:
    _, noisy = noisy_scene("correlated:2,0.8", 192)
    result = Denoiser("ttt-mim").run(noisy)
    assert result.steps == 0
    np.testing.assert_array_equal(result.samples, Denoiser("none")(noisy))


def gaussian_only() -> str:
    return next(n for n in checkpoints.names() if n.endswith("-gaussian"))


def test_an_adaptation_that_runs_away_is_refused() -> None:
    _, noisy = noisy_scene("correlated:25,1")
    weights = gaussian_only()
    result = Denoiser("ttt-mim", weights=weights, options={"lr": 0.5}).run(noisy)
    assert result.steps > result.kept_step == 0
    assert "none of" in result.reason
    np.testing.assert_array_equal(result.samples, Denoiser("none", weights=weights)(noisy))


def test_without_validation_all_steps_are_kept() -> None:
    _, noisy = noisy_scene("gaussian:25")
    result = Denoiser("ttt-mim", steps=2, options={"validate": False}).run(noisy)
    assert (result.steps, result.kept_step, result.gain_db) == (2, 2, None)


def test_no_steps_means_no_adaptation() -> None:
    _, noisy = noisy_scene("gaussian:25")
    result = Denoiser("ttt-mim", steps=0).run(noisy)
    assert (result.steps, result.kept_step) == (0, 0)
    np.testing.assert_array_equal(result.samples, Denoiser("none")(noisy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 3}, "known are"),
        ({"lr": "fast"}, "takes float"),
        ({"steps": 2.5}, "takes int"),
        ({"validate": "perhaps"}, "takes bool"),
        ({"lr": -1}, "above 0"),
        ({"mask_ratio": 1.5}, "between 0 and 1"),
        ({"crop": 8}, "64"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        methods.load_method("ttt-mim", options)


def test_options_may_be_text() -> None:
    method = methods.load_method("ttt-mim", {"steps": "3", "lr": "1e-4", "validate": "no"})
    assert (method.steps, method.lr, method.validate) == (3, 1e-4, False)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UsageError, match="ttt-mim"):
        methods.load_method("magic")
