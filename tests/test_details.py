"""Details that were taken away with the noise are given back, and noise is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from denoise_cli import details, noise, noise_kind

SIGMA = 10 / 255


def weave() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture (1, 3, 128, 256) whose right half is a fine weave, and what a blur leaves of it."""
    smooth = torch.linspace(0.3, 0.6, 256).expand(1, 3, 128, 256).contiguous()
    clean = smooth.clone()
    checks = torch.tensor([1.0, -1.0]).repeat(64)
    clean[..., 128:] += 0.08 * checks * checks[:, None]
    return clean, smooth


def sample(spec: str, clean: torch.Tensor) -> torch.Tensor:
    return noise.parse(spec).sample(clean, torch.Generator().manual_seed(0))


def error(found: torch.Tensor, clean: torch.Tensor) -> float:
    return float((found - clean).square().mean() ** 0.5)


def test_a_texture_that_was_removed_comes_back_and_noise_does_not() -> None:
    clean, smooth = weave()
    noisy = sample("gaussian:10", clean)
    found = details.give_back(noisy, smooth, SIGMA**2)
    left, right = np.s_[..., :112], np.s_[..., 144:]
    assert error(found[right], clean[right]) < 0.5 * error(smooth[right], clean[right])
    assert error(found[right], clean[right]) < SIGMA
    assert error(found[left], clean[left]) < 0.05 * SIGMA


def test_neither_impulses_nor_clipped_places_come_back() -> None:
    clean = torch.full((1, 3, 96, 96), 0.5)
    clean[..., :32] = 0.0
    clipped = sample("gaussian:10", clean).clamp(0, 1)
    clipped[..., 10::24, 44::20] = 1.0
    found = details.give_back(clipped, clean, SIGMA**2)
    # As much of a fifth of the noise as of an impulse would show: 0.5 against 0.04.
    assert (found - clean).abs().max() < 0.3 * 4 * SIGMA
    assert torch.equal(found[..., :28], clean[..., :28])


def test_of_noise_that_grows_with_the_light_only_what_is_unusual_comes_back() -> None:
    clean = torch.linspace(0.1, 0.8, 256).repeat(1, 3, 256, 1)
    smooth = clean.clone()
    checks = torch.tensor([1.0, -1.0]).repeat(128)
    clean[..., 208:, :] += (0.12 * checks[:, None] * checks)[208:]
    noisy = sample("poisson-gaussian:0.001,0.0001", clean)
    found = details.give_back_unusual(noisy, smooth)
    plain, woven = np.s_[..., :192, :], np.s_[..., 216:, :]
    assert error(found[woven], clean[woven]) < 0.35 * error(smooth[woven], clean[woven])
    assert torch.equal(found[plain], clean[plain])


def test_few_bright_spots_are_not_unusual() -> None:
    clean = torch.full((1, 3, 128, 128), 0.02)
    clean[..., 50:70, 50:70] = 0.9
    found = details.give_back_unusual(sample("poisson:100", clean), clean)
    torch.testing.assert_close(found, clean)


@pytest.mark.parametrize(
    ("spec", "give_back"),
    [
        ("gaussian:8", lambda noisy, clean: details.give_back(noisy, clean, (8 / 255) ** 2)),
        ("gaussian:8", lambda noisy, clean: details.weigh_in(noisy, clean, (8 / 255) ** 2)),
        ("gaussian:8", details.give_back_unusual),
        ("correlated:8,1", details.give_back_unusual),
    ],
)
def test_noise_that_is_stronger_in_a_corner_is_not_given_back(
    spec: str, give_back: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> None:
    clean = torch.full((1, 3, 192, 192), 0.5)
    noise_there = sample(spec, clean) - clean
    noise_there[..., :64, :64] *= 3
    found = give_back(clean + noise_there, clean)
    assert error(found, clean) < 0.1 * error(clean + noise_there, clean)


def test_an_impulse_is_not_a_detail() -> None:
    clean = torch.full((1, 3, 96, 96), 0.5)
    noisy = sample("gaussian:2", clean)
    noisy[..., 40, 40] = 1.0
    torch.testing.assert_close(details.give_back_unusual(noisy, clean), clean)


def test_where_nothing_was_removed_nothing_is_given_back() -> None:
    clean, _ = weave()
    torch.testing.assert_close(details.give_back_unusual(clean, clean), clean)
    torch.testing.assert_close(details.give_back(clean, clean, 0.0), clean)


def test_each_picture_is_its_own_measure_of_what_is_unusual() -> None:
    clean = torch.full((2, 3, 96, 96), 0.5)
    noisy = torch.cat([sample("gaussian:2", clean[:1]), sample("gaussian:40", clean[:1])])
    torch.testing.assert_close(details.give_back_unusual(noisy, clean), clean)


def test_own_samples_are_weighed_in_as_far_as_they_know_more() -> None:
    clean, filled = weave()
    noisy = sample("gaussian:10", clean)
    found = details.weigh_in(noisy, filled, SIGMA**2)
    left, right = np.s_[..., :96], np.s_[..., 160:]
    assert error(found[left], clean[left]) < 0.1 * SIGMA
    # The best that one sample and a guess that is off by 0.08 can do together.
    best = (0.08**-2 + SIGMA**-2) ** -0.5
    assert error(found[right], clean[right]) == pytest.approx(best, rel=0.02)


def test_fur_does_not_pass_for_stronger_noise() -> None:
    waves = 0.08 * torch.sin(torch.arange(128) * 2 * torch.pi / 16)
    filled = (0.5 + waves).expand(1, 3, 128, 128).contiguous()
    clean = sample("gaussian:15", filled)  # as fine as noise, and none of it can be filled in
    noisy = clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = details.weigh_in(noisy, filled, SIGMA**2)
    best = ((15 / 255) ** -2 + SIGMA**-2) ** -0.5
    assert error(found, clean) == pytest.approx(best, rel=0.02)


def test_an_estimate_that_is_too_high_is_brought_down_by_what_is_predicted_well() -> None:
    clean, filled = weave()
    noisy = sample("gaussian:10", clean)
    found = details.at_most_missed(noisy, filled, (1.2 * SIGMA) ** 2)
    assert found**0.5 == pytest.approx(SIGMA, rel=0.03)
    assert details.at_most_missed(noisy, filled, (0.9 * SIGMA) ** 2) == (0.9 * SIGMA) ** 2
    # Nothing is known of clipped places, where nothing is missed.
    clipped = sample("gaussian:10", torch.zeros_like(clean)).clamp(0, 1)
    assert details.at_most_missed(clipped, torch.zeros_like(clean), SIGMA**2) == SIGMA**2


def test_clipped_samples_are_not_weighed_in() -> None:
    clean = torch.full((1, 3, 96, 96), 0.5)
    clean[..., :32] = 0.0
    filled = clean + 0.05
    clipped = sample("gaussian:10", clean).clamp(0, 1)
    found = details.weigh_in(clipped, filled, SIGMA**2)
    assert torch.equal(found[..., :28], filled[..., :28])
    assert error(found[..., 48:], clean[..., 48:]) < 0.7 * 0.05


@pytest.mark.parametrize(("spec", "is_white"), [
    ("gaussian:5", True), ("gaussian:25", True), ("gaussian:25+clip", True),
    ("poisson:40", False), ("correlated:20,1", False), ("speckle:0.05", False),
])  # fmt: skip
def test_only_white_noise_is_told_from_details(spec: str, is_white: bool) -> None:
    clean = torch.linspace(0.02, 0.98, 256).expand(1, 3, 256, 256)
    noisy = sample(spec, clean)
    found = noise_kind.removed_level(noisy, noisy, clean)
    is_correlated = noise_kind.is_correlated(noisy)
    assert (found is not None and not found.shot and not is_correlated) == is_white
    if is_white:
        sigma = float(spec.split(":")[1].split("+")[0])
        assert 255 * found.read**0.5 == pytest.approx(sigma, rel=0.05)
    if not is_correlated:
        assert noise_kind.has_high_frequencies(noisy, clean, found)


@pytest.mark.parametrize(("dark", "light", "falls"), [
    (10, 10, False), (10, 8, True), (25, 5, True), (5, 25, False),
])  # fmt: skip
def test_noise_that_is_stronger_in_the_dark_has_no_level(
    dark: float, light: float, falls: bool
) -> None:
    clean = torch.linspace(0.2, 0.8, 256).expand(1, 3, 256, 256)
    strength = torch.linspace(dark, light, 256) / 10
    noisy = clean + (sample("gaussian:10", clean) - clean) * strength
    assert noise_kind.falls_with_light(noisy, clean) == falls
    assert (noise_kind.removed_level(noisy, noisy, clean) is None) == falls


def test_photon_noise_that_is_independent_has_a_level() -> None:
    clean = torch.linspace(0.02, 0.98, 256).expand(1, 3, 256, 256)
    noisy = sample("poisson:40", clean)
    found = noise_kind.removed_level(noisy, noisy, clean)
    assert found is not None
    assert found.shot == pytest.approx(1 / 40, rel=0.15)
    assert found.sigma == pytest.approx((0.5 / 40) ** 0.5, rel=0.05)


def test_where_everything_is_smoothed_nothing_is_taken_for_noise_alone() -> None:
    clean, smooth = weave()
    noisy = sample("gaussian:10", clean)
    half = np.s_[..., 128:]
    found = noise_kind.removed_level(noisy, noisy[half], smooth[half])
    assert found is not None
    assert found.read**0.5 > 2 * SIGMA  # the weave is everywhere: it may be noise
