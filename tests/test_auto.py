"""The method auto: the default network, and an adapted one where that leaves less noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from helpers import photo
from PIL import Image
from test_method_contract import pictures
from test_methods import filaments, noisy_scene

from denoise_cli import Denoiser, denoise, noise
from denoise_cli.errors import UsageError
from denoise_cli.methods.auto import GAUSSIAN
from denoise_cli.metrics import psnr


def mean_of(noisy: np.ndarray, *names: str) -> np.ndarray:
    return np.mean([Denoiser("none", weights=name)(noisy) for name in names], axis=0)


def mean_of_orientations(noisy: np.ndarray, *names: str) -> np.ndarray:
    """The mean of four passes at most, the same number for each network."""
    every = [
        (lambda p: p, lambda p: p),
        (lambda p: np.rot90(p, -1)[:, ::-1], lambda p: np.rot90(p[:, ::-1])),
        (np.rot90, lambda p: np.rot90(p, -1)),
        (lambda p: p[::-1], lambda p: p[::-1]),
    ]
    networks = [Denoiser("none", weights=name) for name in names] * (4 // len(names))
    passes = zip(networks, every, strict=False)
    return np.mean(
        [back(net(np.ascontiguousarray(turn(noisy)))) for net, (turn, back) in passes], 0
    )


def test_of_white_noise_the_one_that_knows_it_best_is_used() -> None:
    clean, noisy = pictures(128, spec="gaussian:25")
    result = Denoiser("auto", steps=0).run(noisy)
    together = result.samples
    assert [candidate.weight for candidate in result.candidates] == [0, 1]
    assert "alike patches" in result.reason
    mean = mean_of_orientations(noisy, GAUSSIAN)
    assert np.mean(np.abs(together - mean) < 4e-3) > 0.8  # elsewhere details are given back
    assert psnr(clean, together) > psnr(clean, mean) - 0.02
    for name in ("ttt-mim", GAUSSIAN):
        assert psnr(clean, together) > psnr(clean, mean_of(noisy, name))


@pytest.mark.slow
def test_in_a_dark_micrograph_the_default_network_is_adapted_too() -> None:
    clean = filaments()
    counts = torch.poisson(torch.from_numpy(300 * clean), torch.Generator().manual_seed(1))
    noisy = counts.numpy() / 300
    result = Denoiser("auto").run(noisy)
    assert "ttt-mim, adapted" in {one.name for one in result.candidates if one.weight}
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none")(noisy)) + 1.5
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("ttt-mim")(noisy)) + 0.2


def test_noise_that_grows_with_the_light_is_not_left_to_the_one_for_white_noise() -> None:
    clean, noisy = pictures(128, spec="poisson:40")
    result = Denoiser("auto", steps=0).run(noisy)
    assert [(one.name, one.weight) for one in result.candidates] == [("ttt-mim", 1)]
    assert psnr(clean, result.samples) > psnr(clean, mean_of(noisy, "ttt-mim"))


def test_the_noise_of_a_dark_micrograph_is_made_even() -> None:
    """Networks that were trained on photos leave noise in few bright spots."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    clean = np.full((192, 192), 0.02)
    for _ in range(150):
        top, left, radius, light = random.uniform([0, 0, 1.2, 0.1], [192, 192, 4, 0.9])
        spot = light * np.exp(-((y - top) ** 2 + (x - left) ** 2) / 2 / radius**2)
        clean = np.maximum(clean, spot)
    photons = torch.Generator().manual_seed(0)
    noisy = noise.parse("poisson:200").sample(torch.from_numpy(clean)[None, None].float(), photons)
    noisy = noisy[0, 0].numpy()
    before = mean_of(noisy, "ttt-mim")
    assert psnr(clean, Denoiser("auto", steps=0)(noisy)) > psnr(clean, before) + 0.2


def test_impulses_are_left_to_the_one_that_knows_them() -> None:
    clean, noisy = pictures(128, spec="salt-pepper:0.03")
    result = Denoiser("auto", steps=0).run(noisy)
    np.testing.assert_allclose(result.samples, mean_of_orientations(noisy, "ttt-mim"), atol=4e-3)
    assert psnr(clean, result.samples) > psnr(clean, mean_of(noisy, "ttt-mim"))
    assert psnr(clean, result.samples) > psnr(clean, mean_of(noisy, GAUSSIAN)) + 1


def of_unknown_noise(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A clean picture, and with noise that four pixels of a row have in common."""
    clean, _ = pictures(size)
    grain = np.random.default_rng(0).normal(0, 0.1, (size, size // 4, 1))
    return clean, (clean + grain.repeat(4, axis=1)).astype(np.float32)


def test_noise_that_the_first_does_not_know_brings_the_adapted_one_in() -> None:
    clean, noisy = of_unknown_noise(192)
    result = Denoiser("auto", steps=10).run(noisy)
    assert result.kept_step > 0
    weights = {candidate.name: candidate.weight for candidate in result.candidates}
    assert weights[f"{GAUSSIAN}, adapted"] > 0
    assert psnr(clean, result.samples) > psnr(clean, mean_of(noisy, "ttt-mim")) + 1


def test_bands_that_are_left_are_not_learned() -> None:
    """Of two rows each, as where a picture was made larger: such could be a part of it."""
    clean = skimage.data.astronaut()[:256, 100:356].astype(np.float32) / 255
    random = np.random.default_rng(0)
    bands = random.normal(0, 10 / 255, (128, 1, 1)).repeat(2, axis=0)
    noisy = clean + bands + random.normal(0, 20 / 255, clean.shape)
    result = Denoiser("auto").run(noisy.astype(np.float32))
    assert "bands taken away" not in result.reason
    assert result.steps == 0
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none")(noisy.astype(np.float32)))


@pytest.mark.parametrize("spec", ["gaussian:25", "correlated:25,1"])
def test_to_noise_that_the_first_knows_no_other_is_adapted(spec: str) -> None:
    _, noisy = pictures(128, spec=spec)
    result = Denoiser("auto", steps=4).run(noisy)
    assert all("adapted" not in candidate.name for candidate in result.candidates)
    assert Denoiser("auto", steps=0).run(noisy).steps == 0


@pytest.mark.parametrize(
    ("spec", "steps", "gain"),
    [
        ("gaussian:25", 64, 0.2),
        pytest.param("correlated:25,1", 160, 0.05, marks=pytest.mark.slow),
        pytest.param("salt-pepper:0.03", 160, 1, marks=pytest.mark.slow),
    ],
)
def test_the_network_is_tuned_to_the_noise_that_it_took_away(
    spec: str, steps: int, gain: float
) -> None:
    """White noise, whose network has the least to learn, in two fifths of the steps."""
    clean, noisy = pictures(128, spec=spec)
    before, after = (Denoiser("auto", steps=steps).run(noisy) for steps in (0, 160))
    assert after.steps == after.kept_step == steps
    assert [candidate.weight for candidate in after.candidates][-1] == 1
    assert after.candidates[-1].name.endswith(", tuned")
    assert psnr(clean, after.samples) > psnr(clean, before.samples) + gain


def test_the_next_picture_finds_the_network_as_it_was() -> None:
    _, noisy = pictures(96, spec="gaussian:25")
    _, other = pictures(96, spec="correlated:25,1")
    denoiser = Denoiser("auto", steps=10)
    first = denoiser(noisy)
    denoiser(other)
    np.testing.assert_array_equal(denoiser(noisy), first)


def test_a_network_that_was_tuned_to_keep_the_noise_is_not_used() -> None:
    """Of a fine pattern with next to no noise nothing is taken away to learn from."""
    y, x = np.mgrid[:128, :128] // 2
    clean = 0.45 + 0.1 * ((x + y) % 2)[..., None].repeat(3, axis=2)
    grain = np.random.default_rng(0).normal(0, 1 / 255, clean.shape)
    noisy = (clean + grain).astype(np.float32)
    before, after = (Denoiser("auto", steps=steps).run(noisy) for steps in (0, 40))
    assert after.candidates[-1].name == "ttt-mim, tuned"
    assert after.candidates[-1].weight == after.kept_step == 0
    np.testing.assert_array_equal(before.samples, after.samples)


@pytest.mark.slow
def test_tuned_to_leave_more_of_the_noise_it_only_joins_the_mean() -> None:
    """Outliers are no part of the level that it is tuned to: it takes away less of them."""
    clean = pictures(120)[0][..., 0]  # too small to be halved
    random = np.random.default_rng(0)
    strong = random.random(clean.shape) < 0.03
    noise = random.normal(0, np.where(strong, 60, 6) / 255)
    noisy = np.clip(clean + noise, 0, 1).astype(np.float32)
    # Nearly gray: of gray pictures the outliers are filled in.
    clean, noisy = np.stack([clean] * 3, axis=-1), np.stack([noisy, noisy, noisy + 1e-3], axis=-1)
    before, after = (Denoiser("auto", steps=steps).run(noisy) for steps in (0, 160))
    weights = {one.name: one.weight for one in after.candidates}
    assert weights["ttt-mim"] == weights["ttt-mim, tuned"] == 0.5
    assert psnr(clean, after.samples) > psnr(clean, before.samples) + 0.5


@pytest.mark.parametrize("steps", [0, 20])
def test_a_mesh_that_passes_for_the_noise_of_a_camera_is_kept(steps: int) -> None:
    clean = 0.2 + 0.6 * pictures(192)[0]
    y, x = np.mgrid[:64, :64]
    mesh = np.s_[64:128, 64:128]
    clean[mesh] += 0.05 * (1 - 2 * ((x + y) % 2))[..., None]
    planes = torch.from_numpy(np.moveaxis(clean, -1, 0)[None].astype(np.float32))
    drawn = noise.parse("camera:0.001,0.5").sample(planes, torch.Generator().manual_seed(0))
    noisy = np.ascontiguousarray(np.moveaxis(drawn[0].numpy(), 0, -1))
    kept = Denoiser("auto", steps=steps)(noisy)
    assert psnr(clean[mesh], kept[mesh]) > psnr(clean[mesh], mean_of(noisy, "ttt-mim")[mesh]) + 4


@pytest.mark.slow
def test_noise_that_is_stronger_in_the_corners_is_taken_away_there_too() -> None:
    """As of a photo whose vignetting was corrected, or of MRI."""
    clean = pictures(192)[0]
    y, x = np.mgrid[-1:1:192j, -1:1:192j]
    from_center = (x**2 + y**2)[..., None] / 2
    sigma = (8 + 12 * from_center**2) / 255
    noisy = (clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)).astype(
        np.float32
    )
    corners = from_center[..., 0] > 0.6
    before, passes = mean_of(noisy, "ttt-mim"), mean_of_orientations(noisy, GAUSSIAN)
    for steps in (0, 80):
        found = Denoiser("auto", steps=steps)(noisy)
        assert psnr(clean[corners], found[corners]) > psnr(clean[corners], passes[corners])
        assert psnr(clean, found) > psnr(clean, before)


@pytest.mark.slow
def test_noise_that_is_stronger_in_the_dark_is_not_given_back_there() -> None:
    """As of scanned film, or of a photo whose shadows were brightened."""
    clean = skimage.data.camera()[60:252, 140:332] / 255
    sigma = (3 + 12 * (1 - clean) ** 2) / 255
    drawn = np.random.default_rng(0).standard_normal(clean.shape)
    noisy = (clean + sigma * drawn).astype(np.float32)
    before = psnr(clean, mean_of(noisy, "ttt-mim"))
    assert psnr(clean, Denoiser("auto", steps=0)(noisy)) > before + 0.05
    # It is tuned to noise of one level, and loses a little of that again.
    assert psnr(clean, Denoiser("auto", steps=80)(noisy)) > before - 0.05


@pytest.mark.slow
def test_noise_that_was_moved_to_a_darker_place_is_not_clipped_there() -> None:
    """It may be too strong for that place, and its mean would shift."""
    clean = pictures(128)[0] ** 2
    planes = torch.from_numpy(np.moveaxis(clean, -1, 0)[None].copy())
    drawn = noise.parse("camera:0.02,0+clip").sample(planes, torch.Generator().manual_seed(1))
    noisy = np.ascontiguousarray(np.moveaxis(drawn[0].numpy(), 0, -1))
    before, after = (Denoiser("auto", steps=steps).run(noisy) for steps in (0, 80))
    assert after.kept_step == 80
    assert psnr(clean, after.samples) > psnr(clean, before.samples)


@pytest.mark.slow
def test_gray_pictures_are_tuned_to_as_well() -> None:
    clean, noisy = pictures(128, spec="gaussian:25")
    clean, noisy = clean[..., 0], noisy[..., 0]
    before, after = (Denoiser("auto", steps=steps).run(noisy) for steps in (0, 160))
    assert after.kept_step == 64
    assert after.samples.shape == noisy.shape
    assert psnr(clean, after.samples) > psnr(clean, before.samples)


@pytest.mark.parametrize("weak", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_no_other_network_is_adapted_to_noise_that_is_too_weak(weak: bool) -> None:
    """It would leave less of it in flat places, and more elsewhere."""
    _, noisy = pictures(192, spec="correlated:1,1.5,1") if weak else of_unknown_noise(192)
    tried = [each.name for each in Denoiser("auto", steps=8).run(noisy).candidates]
    assert any(name.startswith(f"{GAUSSIAN},") for name in tried) != weak


def test_it_says_what_it_compared(folder: Path, call: Callable[..., Any]) -> None:
    _, noisy = pictures(128, spec="gaussian:25")
    Image.fromarray(np.uint8(np.clip(noisy, 0, 1) * 255)).save("a.png")
    code, out, err = call("a.png", "-m", "auto", "--steps", "4", "--json", "-v", weights=False)
    record = json.loads(out)
    assert code == 0
    assert [c["name"] for c in record["candidates"]] == ["ttt-mim", GAUSSIAN, f"{GAUSSIAN}, tuned"]
    lines = "\n".join(err)
    for candidate in record["candidates"]:
        assert 0 < candidate["noise_left"] < 0.3
        assert f"{candidate['name']}: {candidate['noise_left']:.0%} of the noise left" in lines
    assert record["reason"] in lines


def test_the_budget_decides_what_is_tried() -> None:
    _, noisy = pictures(96, spec="correlated:25,1")
    balanced, best = (
        Denoiser("auto", steps=0, options={"budget": budget}).run(noisy)
        for budget in ("balanced", "best")
    )
    assert "alike patches" not in balanced.reason
    assert not np.array_equal(best.samples, balanced.samples)
    turned = np.ascontiguousarray(np.rot90(noisy))
    again = Denoiser("auto", steps=0, options={"budget": "best"})(turned)
    np.testing.assert_allclose(np.rot90(again, -1), best.samples, atol=5e-3)
    _, unknown = of_unknown_noise(128)
    assert Denoiser("auto", steps=3).run(unknown).steps == 3
    assert Denoiser("auto", steps=3, options={"budget": "best"}).run(unknown).steps == 6
    assert Denoiser("auto", steps=0).run(unknown).steps == 0
    assert Denoiser("auto", options={"budget": "fast"}).run(unknown).steps == 0
    with pytest.raises(UsageError, match="budget must be fast, balanced, best, not 'slow'"):
        Denoiser("auto", options={"budget": "slow"})


def test_the_budget_is_an_option_of_the_command(folder: Path, call: Callable[..., Any]) -> None:
    photo("a.png")
    code, out, _ = call("a.png", "-m", "auto", "--budget", "fast", "--json", weights=False)
    assert code == 0
    assert json.loads(out)["steps"] == 0
    code, _, err = call("a.png", "--budget", "fast", "-o", "c.png")
    assert code == 2
    assert "no option 'budget'" in err[0]
    code, _, err = call("a.png", "-m", "auto", "--budget", "slow", "-o", "c.png", weights=False)
    assert code == 2
    assert "budget must be fast, balanced, best" in err[0]


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ([], "auto"),
        (["-w", "ttt-mim"], "ttt-mim"),
        (["-w", "masked"], "masked"),
        (["-w", "meta-transfer", "-m", "none"], "none"),
        (["--budget", "fast"], "auto"),
        (["--steps", "1"], "auto"),
    ],
)
def test_it_is_the_default_where_no_checkpoint_names_a_method(
    folder: Path, call: Callable[..., Any], given: list[str], method: str
) -> None:
    photo("a.png", (48, 48, 3))
    code, out, err = call("a.png", *given, "--json", weights=False)
    assert code == 0, err
    assert json.loads(out)["method"] == method


def test_it_is_the_default_of_the_function_too(tiny: Path) -> None:
    _, noisy = pictures(96, spec="gaussian:25")
    np.testing.assert_array_equal(denoise(noisy, steps=2), denoise(noisy, "auto", steps=2))
    with_tiny = denoise(noisy, weights=str(tiny))
    np.testing.assert_array_equal(with_tiny, denoise(noisy, "ttt-mim", weights=str(tiny)))


def test_of_a_small_picture_nothing_is_asked() -> None:
    _, noisy = pictures(128, spec="gaussian:25")
    part = np.ascontiguousarray(noisy[:40, :90])
    result = Denoiser("auto").run(part)
    np.testing.assert_allclose(result.samples, mean_of_orientations(part, "ttt-mim"), atol=8e-3)
    assert "too small" in result.reason


@pytest.mark.parametrize(
    "spec", ["gaussian:25", pytest.param("correlated:25,0.7", marks=pytest.mark.slow)]
)
def test_a_page_that_is_mostly_blank_is_tuned_to_what_it_holds(spec: str) -> None:
    clean, noisy = noisy_scene(spec, 192)
    page = np.full((560, 400), 255, np.uint8)
    foot = np.s_[400:, 104:296]
    page[foot] = np.rint(255 * noisy[:160].mean(axis=-1).clip(0, 1))
    truth = clean[:160].mean(axis=-1)
    plain, found = (Denoiser(method)(page)[foot] / 255 for method in ("none", "auto"))
    assert psnr(truth, found) > psnr(truth, plain) + 0.5
