"""The error is estimated from the noisy picture alone, and estimated well."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from denoise_cli import noise
from denoise_cli.neighbors import WHITE, Neighbors
from denoise_cli.noise_level import NoiseLevel
from denoise_cli.validation import (
    ImpulseEstimate,
    RiskEstimate,
    SteinEstimate,
    flat_noise,
    is_passed_over,
    noise_bound,
    noise_is_left,
)


def scene(size: int = 192) -> torch.Tensor:
    """A clean picture with flat areas, edges, slopes and texture: (1, 3, size, size) on 0..1."""
    y, x = np.mgrid[0:size, 0:size] / size
    texture = 0.08 * np.sin(80 * x) * np.sin(95 * y) * ((x > 0.55) & (y > 0.55))
    base = 0.25 + 0.3 * (x > 0.4) + 0.2 * (y > 0.5) + 0.1 * x * y + texture
    picture = np.stack([base, 0.9 * base, 0.1 + 0.7 * base])
    return torch.from_numpy(picture.astype(np.float32))[None]


def box(size: int):  # type: ignore[no-untyped-def]
    def predict(pictures: torch.Tensor) -> torch.Tensor:
        if size == 1:
            return pictures
        half = size // 2
        return F.avg_pool2d(F.pad(pictures, (half,) * 4, mode="reflect"), size, 1)

    return predict


def probe_of(noisy: torch.Tensor) -> torch.Tensor:
    return flat_noise(noisy, box(9)(noisy), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "spec", ["gaussian:15", "gaussian:40", "correlated:25,0.8", "poisson:20", "camera:0.01"]
)
def test_the_estimate_follows_the_true_error(spec: str) -> None:
    clean = scene()
    noisy = noise.parse(spec).sample(clean, torch.Generator().manual_seed(1))
    risk = RiskEstimate(noisy, box(9)(noisy), torch.Generator().manual_seed(0))
    true, estimated = [], []
    for size in (1, 3, 5, 9, 15):
        true.append(float((box(size)(noisy) - clean).square().mean()))
        estimated.append(risk(box(size)))
    # Errors are told to a fraction of the noise's own variance, the identity's error.
    assert estimated == pytest.approx(true, abs=0.2 * true[0])
    chosen, best = true[int(np.argmin(estimated))], min(true)
    assert 10 * math.log10(chosen / best) < 0.6


@pytest.mark.parametrize("level", [NoiseLevel(read=0.01), NoiseLevel(shot=0.02, read=0.001)])
def test_steins_estimate_is_close_and_at_most_what_it_says(level: NoiseLevel) -> None:
    clean = scene()
    noisy = level.sample(clean, torch.Generator().manual_seed(1))
    trust = torch.ones_like(noisy[:, :1])
    risk = SteinEstimate(noisy, level, trust, torch.Generator().manual_seed(0))
    assert risk.variance == pytest.approx(float((noisy - clean).square().mean()), rel=0.05)
    for size in (1, 3, 5, 9, 15):
        true = float((box(size)(noisy) - clean).square().mean())
        assert risk(box(size)) == pytest.approx(true, abs=0.05 * risk.variance)
    # What changes nothing is no improvement.
    assert risk.gain_db(risk(box(1)), risk(lambda pictures: pictures + 0)) <= risk.least_gain_db


def test_steins_estimate_asks_only_where_the_noise_is_known() -> None:
    clean, level = scene(), NoiseLevel(read=0.01)
    noisy = level.sample(clean, torch.Generator().manual_seed(1))
    noisy[..., :96] = 0.5
    trust = torch.ones_like(noisy[:, :1])
    trust[..., :100] = 0
    risk = SteinEstimate(noisy, level, trust, torch.Generator().manual_seed(0))
    true = float((box(3)(noisy) - clean)[..., 100:].square().mean())
    assert risk(box(3)) == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("neighbors", [Neighbors(across=0.19), Neighbors(across=0.1, down=0.1)])
def test_steins_estimate_knows_what_neighbors_have_in_common(neighbors: Neighbors) -> None:
    clean, level = scene(), NoiseLevel(shot=0.02, read=0.001)
    noise = level.sample(clean, torch.Generator().manual_seed(1)) - clean
    for correlation, axis in ((neighbors.across, -1), (neighbors.down, -2)):
        share = 2 * correlation / (1 + (1 - 4 * correlation**2) ** 0.5)
        noise = (noise + share * noise.roll(1, axis)) / (1 + share**2) ** 0.5
    noisy, trust = clean + noise, torch.ones_like(clean[:, :1])
    true = float((box(3)(noisy) - clean).square().mean())

    def off(neighbors: Neighbors) -> float:
        risk = SteinEstimate(noisy, level, trust, torch.Generator().manual_seed(0), neighbors)
        return abs(risk(box(3)) - true) / risk.variance

    found = Neighbors.of(noisy, box(9)(noisy), level, trust)
    assert off(neighbors) < 0.03
    assert off(found) < 0.03 < off(WHITE)


def test_steins_estimate_is_surer_with_more_parts() -> None:
    level, clean = NoiseLevel(read=0.01), scene()

    def gain(count: int) -> float:
        parts = clean.expand(count, -1, -1, -1)
        noisy = level.sample(parts, torch.Generator().manual_seed(1))
        risk = SteinEstimate(noisy, level, torch.ones_like(noisy[:, :1]), torch.Generator())
        return risk(box(1)) - risk(box(3))

    true = 0.01 * (1 - 1 / 9)
    assert gain(1) < gain(4) < true


def median(size: int):  # type: ignore[no-untyped-def]
    def predict(pictures: torch.Tensor) -> torch.Tensor:
        if size == 1:
            return pictures
        around = F.unfold(F.pad(pictures[0][:, None], (size // 2,) * 4, mode="reflect"), size)
        return around.median(dim=1).values.reshape(pictures.shape)

    return predict


@pytest.mark.parametrize("amount", [0.02, 0.1])
def test_the_estimate_for_impulses_is_the_error(amount: float) -> None:
    clean = scene()
    noisy = noise.parse(f"salt-pepper:{amount}").sample(clean, torch.Generator().manual_seed(1))
    risk = ImpulseEstimate(noisy, median(3)(noisy), noisy != clean, torch.Generator())
    found, true = {}, {}
    for size in (1, 3, 5, 7):
        found[size] = risk(median(size))
        true[size] = float((median(size)(noisy) - clean).square().mean())
        assert found[size] == pytest.approx(true[size], abs=0.05 * risk.variance)
    assert sorted(found, key=found.__getitem__) == sorted(true, key=true.__getitem__)


def test_the_probe_has_the_level_and_the_correlation_of_the_noise() -> None:
    clean = scene()
    for spec in ("gaussian:25", "correlated:25,1"):
        noisy = noise.parse(spec).sample(clean, torch.Generator().manual_seed(1))
        added, probe = noisy - clean, probe_of(noisy)
        assert probe.shape == noisy.shape
        assert probe.std().item() == pytest.approx(added.std().item(), rel=0.15)

        def lag(field: torch.Tensor) -> float:
            return float((field[..., 1:] * field[..., :-1]).mean() / field.square().mean())

        assert lag(probe) == pytest.approx(lag(added), abs=0.12)
        assert abs(float((probe * added).mean() / added.square().mean())) < 0.1


def test_the_probe_follows_the_brightness() -> None:
    clean = torch.zeros(1, 3, 128, 256)
    clean[..., :128], clean[..., 128:] = 0.1, 0.8
    noisy = noise.parse("poisson:30").sample(clean, torch.Generator().manual_seed(1))
    probe = probe_of(noisy)
    ratio = probe[..., 136:].var() / probe[..., :120].var()
    assert ratio.item() == pytest.approx(8, rel=0.4)


def test_a_gray_picture_has_gray_noise() -> None:
    gray = scene()[:, :1]
    noisy = noise.parse("gaussian:25").sample(gray, torch.Generator().manual_seed(1))
    probe = probe_of(noisy.expand(-1, 3, -1, -1))
    assert torch.equal(probe[:, 0], probe[:, 1])


def textured(size: int = 192) -> torch.Tensor:
    """A picture that is flat nowhere: (1, 3, size, size) on 0..1."""
    y, x = np.mgrid[0:size, 0:size]
    grass = np.sin(0.9 * x + 3 * np.sin(0.05 * y)) * np.sin(0.8 * y + 2 * np.sin(0.07 * x))
    slope = (x + y) / (2 * size)
    picture = np.stack([0.5 + 0.12 * grass, 0.45 + 0.12 * grass, 0.4 + 0.11 * grass]) + 0.1 * slope
    return torch.from_numpy(picture.astype(np.float32))[None]


@pytest.mark.parametrize("picture", [scene, textured])
@pytest.mark.parametrize("gray", [False, True])
def test_noise_that_is_left_is_told_from_texture(picture, gray: bool) -> None:  # type: ignore[no-untyped-def]
    clean = picture()
    if gray and picture is textured:
        pytest.skip("without color an even texture cannot be told from noise")
    if gray:
        clean = clean[:, :1].expand(-1, 3, -1, -1)
    added = noise.parse("gaussian:20").sample(clean[:, : 1 if gray else 3], fixed(1)) - clean
    noisy = clean + added
    assert not noise_is_left(noisy, clean)
    assert not noise_is_left(noisy, clean + 0.03 * added)
    if picture is scene:
        assert noise_is_left(noisy, clean + 0.6 * added)
        assert noise_is_left(noisy, noisy - 0.1 * added)
        if not gray:  # little is left, but it has the colors of noise
            assert noise_is_left(noisy, clean + 0.15 * added)


def fixed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("sigma", [1, 5, 30])
def test_the_flattest_windows_bound_the_noise(sigma: float) -> None:
    noisy = noise.parse(f"gaussian:{sigma}").sample(scene(), torch.Generator().manual_seed(1))
    assert 0.8 * sigma < 255 * noise_bound(noisy) < 1.2 * sigma


def test_a_picture_of_one_color_has_no_noise() -> None:
    assert noise_bound(torch.full((1, 3, 64, 64), 0.5)) == 0


def test_even_texture_is_not_noise_that_is_left() -> None:
    """Fur without color, of a photo with hardly any noise, all of which was taken away."""
    generator = torch.Generator().manual_seed(0)
    size = 192
    fur = F.avg_pool2d(torch.randn(1, 1, size + 2, size + 2, generator=generator), 3, 1)
    slope = torch.linspace(0.1, 0.9, size).expand(1, 1, size, size)
    clean = (slope + 10 / 255 * fur / fur.std()).expand(1, 3, -1, -1)
    noisy = clean + torch.randn(clean.shape, generator=generator) / 255
    assert not noise_is_left(noisy, clean)
    assert noise_is_left(noisy, noisy)


def test_noise_is_passed_over_where_next_to_nothing_of_it_was_removed() -> None:
    clean = scene()
    added = noise.parse("gaussian:3").sample(clean, fixed(1)) - clean
    noisy = clean + added
    assert is_passed_over(noisy, noisy - 0.05 * added)
    assert not is_passed_over(noisy, noisy - 0.5 * added)
    assert not is_passed_over(noisy, clean)
    # Grass is as even, but of the contrast of the picture.
    grass = textured()
    noisy = grass + added
    assert not is_passed_over(noisy, noisy - 0.05 * added)


def test_noise_is_in_all_parts_of_a_picture_and_sand_is_not() -> None:
    plain = scene()
    coarse = noise.parse("correlated:3,1.6")
    sand = coarse.sample(plain, fixed(1))
    grains = noise.parse("gaussian:0.2").sample(plain, fixed(2)) - plain
    assert is_passed_over(sand, sand - grains)
    assert not is_passed_over(torch.cat([sand, plain]), torch.cat([sand, plain]) - grains)
    both = torch.cat([sand, coarse.sample(plain, fixed(3))])
    assert is_passed_over(both, both - grains)
    # What is as fine as sand is none either: networks take such noise away.
    fine = torch.cat([noise.parse("gaussian:3").sample(plain, fixed(k)) for k in (1, 3)])
    assert not is_passed_over(fine, fine - grains)


def test_noise_that_changes_with_color_is_noise_if_it_is_even_at_some_brightness() -> None:
    """Where red and green petals are as bright as each other, one may have twice the noise."""
    size = 192
    slope = torch.linspace(0.3, 0.7, size).expand(2, 3, size, size)
    quiet = torch.arange(size).reshape(-1, 1).expand(size, size) < size // 6
    strength = torch.where(quiet & (slope < 0.6), 0.25, 1.0)
    noisy = slope + strength * (noise.parse("correlated:8,1.6").sample(slope, fixed(1)) - slope)
    grains = noise.parse("gaussian:0.2").sample(slope, fixed(2)) - slope
    assert is_passed_over(noisy, noisy - grains)
    # Where places of some brightness have none at all, it is texture, which is uneven as well.
    partly = torch.where(slope < 0.36, slope + 2 * grains, noisy)
    assert not is_passed_over(partly, partly - grains)


def test_the_noise_of_flat_places_may_come_from_other_parts() -> None:
    """Of a part that is flat nowhere, texture would pass for noise."""
    slope = torch.linspace(0.3, 0.7, 192).expand(1, 3, 192, -1)
    parts = torch.cat([textured(), slope])
    noisy = noise.parse("correlated:8,0.8").sample(parts, fixed(1))
    alone, together = (flat_noise(part, part, fixed(0)) for part in (noisy[:1], noisy))
    assert together.shape == noisy.shape
    assert together[0].std() == pytest.approx(8 / 255, rel=0.3)
    assert alone.std() > 1.7 * together[0].std()
