"""GainTuning: gains on any network, losses without a clean picture, the level of the noise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_validation import scene
from torch import Tensor, nn

from denoise_cli import (
    Denoiser,
    checkpoints,
    networks,
    noise,
    noise_kind,
    noise_level,
    objectives,
    views,
)
from denoise_cli.cli import main
from denoise_cli.errors import UsageError
from denoise_cli.gains import fold, with_gains
from denoise_cli.methods import load_method
from denoise_cli.metrics import psnr
from denoise_cli.noise_level import NoiseLevel

NETWORKS = ["blind-spot", "dilated-unet", "dncnn", "mim-resunet", "mim-unet", "hourglass"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Nobody:
    def progress(self, done: int, total: int) -> None: ...
    def step(self, *args: Any, **numbers: Any) -> None: ...


def test_the_unet_has_the_gains_of_the_paper() -> None:
    _, gains = with_gains(networks.build("dilated-unet"))
    assert sum(gain.numel() for gain in gains) == 417
    assert all(bool((gain == 1).all()) for gain in gains)


@pytest.mark.parametrize("name", NETWORKS)
def test_gains_of_one_change_nothing_and_others_scale_filters(name: str) -> None:
    torch.manual_seed(0)
    network = networks.build(name).eval()
    config: dict[str, int] = network.config  # type: ignore[assignment]
    channels = config.get("inputs", config["channels"])
    noisy = torch.rand(1, channels, 64, 64)
    tuned, gains = with_gains(network)
    with torch.no_grad():
        torch.testing.assert_close(tuned(noisy), network(noisy))
        before = copy.deepcopy(network.state_dict())
        for gain in gains:
            gain.mul_(1.1)
        expected = tuned(noisy)
        assert not torch.allclose(expected, network(noisy))
        torch.testing.assert_close(fold(tuned)(noisy), expected)
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_gain_scales_one_output_channel(kind: type[nn.Module], groups: int) -> None:
    layer = kind(4, 6, 3, groups=groups, bias=False)
    tuned, [gain] = with_gains(layer)
    assert gain.numel() == 6
    picture = torch.rand(1, 4, 8, 8)
    factors = torch.arange(1.0, 7)
    with torch.no_grad():
        gain.copy_(factors.reshape(gain.shape))
        torch.testing.assert_close(tuned(picture), layer(picture) * factors.reshape(1, 6, 1, 1))


@pytest.mark.parametrize("level", [NoiseLevel(0, 0.01), NoiseLevel(0.02, 0.001)])
def test_stabilized_noise_has_variance_one_and_goes_back(level: NoiseLevel) -> None:
    for brightness in (0.2, 0.8):
        noisy = level.sample(torch.full((1, 1, 200, 200), brightness), generator())
        stable = level.stabilize(noisy)
        assert float(stable.var()) == pytest.approx(1, abs=0.1)
        usual = noisy > 0.02
        torch.testing.assert_close(level.unstabilize(stable)[usual], noisy[usual])


@pytest.mark.parametrize("read", [0.0, 0.02, -0.004])
def test_stabilized_noise_comes_back_without_bias(read: float) -> None:
    shot = 0.1
    level = NoiseLevel(shot, read)
    black, spread = max(-read / shot, 0.0), max(read, 0.0) ** 0.5
    for count in (1.0, 2.0, 5.0, 20.0):
        counts = torch.poisson(torch.full((1, 1, 400, 400), count), generator=generator())
        noisy = shot * counts + black + spread * torch.randn(counts.shape, generator=generator(1))
        mean = level.stabilize(noisy).mean()
        assert float(level.unstabilize_mean(mean)) == pytest.approx(float(noisy.mean()), abs=0.005)
        assert float(level.unstabilize(mean)) < float(noisy.mean()) - 0.01


def smoothed_scene(
    level: NoiseLevel, side: int
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """A clean picture, a noisy one, and a denoiser that is a mean over squares."""

    def smooth(pictures: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pictures, side, 1, side // 2, count_include_pad=False)

    clean = scene(192)
    return clean, level.sample(clean, generator()), smooth


@pytest.mark.parametrize("level", [NoiseLevel(0, 0.01), NoiseLevel(0.01, 0.002)])
def test_the_risk_is_the_error_of_smoothing(level: NoiseLevel) -> None:
    clean, noisy, smooth = smoothed_scene(level, 3)
    risk = float(objectives.risk_map(smooth, noisy, level, generator(1), 2).mean())
    error = float((smooth(noisy) - clean).square().mean())
    assert risk == pytest.approx(error, rel=0.15)


@pytest.mark.parametrize("level", [NoiseLevel(0, 0.01), NoiseLevel(0.01, 0.002)])
def test_sure_estimates_the_error_of_smoothing(level: NoiseLevel) -> None:
    clean, noisy, smooth = smoothed_scene(level, 5)
    estimate = float(objectives.sure(smooth, noisy, level, generator(1)))
    error = level.stabilize(smooth(noisy)) - level.stabilize(clean)
    assert estimate == pytest.approx(float(error.square().mean()), abs=0.04)


def test_the_blind_spot_loss_does_not_reward_the_identity() -> None:
    noisy = NoiseLevel(0, 0.01).sample(torch.full((1, 1, 128, 128), 0.5), generator())
    constant = objectives.blind_spot(lambda x: torch.full_like(x, 0.5), noisy, 0.05, generator(1))
    identity = objectives.blind_spot(lambda x: x, noisy, 0.05, generator(1))
    assert float(constant) == pytest.approx(0.01, rel=0.1)
    assert float(identity) > 1.05 * float(constant)


def test_a_blind_spot_network_is_asked_about_all_pixels() -> None:
    torch.manual_seed(0)
    network = networks.build("blind-spot", width=8).eval()
    noisy = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        plain = (network(noisy) - noisy).square().mean()
        loss = objectives.blind_spot(network, noisy, 0.05, generator())
        half = torch.zeros_like(noisy)
        half[..., :16] = 1
        left = objectives.blind_spot(network, noisy, 0.05, generator(), half)
        torch.testing.assert_close(loss, plain)
        torch.testing.assert_close(left, (network(noisy) - noisy)[..., :16].square().mean())


def test_resampling_is_least_for_the_one_that_finds_the_estimate_again() -> None:
    estimate, level = scene(64), NoiseLevel(0, 0.01)
    assert float(objectives.resample(lambda x: estimate, estimate, level, generator())) == 0
    loss = objectives.resample(lambda x: x, estimate, level, generator())
    assert float(loss) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("sigma", [5, 10, 25, 50, 80])
def test_the_level_is_estimated_within_five_percent(sigma: float) -> None:
    noisy = noise.parse(f"gaussian:{sigma}").sample(scene(256), generator())
    assert noise_level.estimate(noisy).sigma * 255 == pytest.approx(sigma, rel=0.05)


def micrograph(shot: float, read: float, black: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A dim picture of few photons, as recorded in 8 bits; clean and noisy, on 0..1."""
    clean = black + 0.5 * scene(160)[:, :1].square()
    counts = torch.poisson((clean - black) / shot, generator=generator(seed))
    noisy = shot * counts + black + read**0.5 * torch.randn(counts.shape, generator=generator(1))
    return clean, (noisy.clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize(("shot", "read"), [(0.005, 0.0), (0.02, 0.0), (0.01, 5e-4)])
@pytest.mark.parametrize("black", [0.0, 0.1])
def test_the_level_of_photon_noise_is_estimated(shot: float, read: float, black: float) -> None:
    clean, noisy = micrograph(shot, read, black)
    level = noise_level.estimate_poisson_gaussian(noisy)
    assert level is not None
    for share in (0.4, 0.8):
        brightness = torch.quantile(clean, share)
        expected = shot * (brightness - black) + read
        found = float(level.variance(brightness))
        assert found**0.5 == pytest.approx(float(expected) ** 0.5, rel=0.12)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_few_bright_spots_of_a_micrograph_tell_the_shot_noise(seed: int) -> None:
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    clean = torch.full((1, 1, 256, 256), 0.04)
    for u in torch.rand(40, 4, generator=generator(seed)):
        row, column, radius, light = 256 * u[0], 256 * u[1], 3 + 9 * u[2], 0.1 + 0.5 * u[3]
        clean += light * torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius**2))
    noisy = noise.parse("poisson:150").sample(clean.clamp(0, 1), generator())
    level = noise_level.estimate_poisson_gaussian(noisy)
    assert level is not None
    assert level.shot == pytest.approx(1 / 150, rel=0.1)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("photons", [0.05, 0.2])
def test_a_background_of_hardly_any_photons_does_not_lower_the_level(
    photons: float, seed: int
) -> None:
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    light = torch.full((256, 256), photons)
    for row, column in 256 * torch.rand(8, 2, generator=generator(seed)):
        light += 20 * torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 20**2))
    black, gain = 3.0, 3.5  # of 255: what is recorded of no photon and for one
    counts = torch.poisson(light, generator=generator(seed))
    recorded = black + gain * counts + torch.randn(light.shape, generator=generator(seed + 1))
    level = noise_level.estimate_poisson_gaussian(recorded.round().clamp(0)[None, None] / 255)
    assert level is not None
    found = level.variance((black + gain * light) / 255).mean()
    assert float(found) == pytest.approx((gain**2 * light.mean() + 1).item() / 255**2, rel=0.1)


def test_even_noise_has_no_shot_noise() -> None:
    flat = NoiseLevel(0, 0.01).sample(torch.full((1, 1, 96, 96), 0.5), generator())
    level = noise_level.estimate_poisson_gaussian(flat)
    assert level is None or float(level.variance(flat).std()) < 0.002
    assert noise_level.estimate_poisson_gaussian(torch.full((1, 1, 20, 20), 0.5)) is None


def test_clipped_and_dark_places_are_not_trusted() -> None:
    _, noisy = micrograph(0.01, 0.0, 0.0)
    noisy[..., :40] = 0
    noisy[..., 120:] = 1
    trust = noise_level.trusted(noisy, NoiseLevel(0.01, 0))
    assert trust.shape == noisy.shape
    assert not trust[..., :38].any()
    assert not trust[..., 122:].any()
    assert trust[..., 44:116].float().mean() > 0.9


def test_photon_noise_is_stabilized_for_the_network() -> None:
    clean, noisy = micrograph(0.02, 0.0, 0.03)
    samples = (noisy[0, 0].numpy() * 255).round().astype(np.uint8)
    truth = clean[0, 0].numpy()
    plain = Denoiser("none", weights="unet").run(samples)
    tuned = Denoiser("gaintuning", steps=10).run(samples)
    assert "sure" in tuned.reason
    assert "stabilized" in tuned.reason
    assert tuned.gain_db is not None
    assert tuned.gain_db > 0
    assert psnr(truth, tuned.samples / 255) > psnr(truth, plain.samples / 255) + 0.2
    as_it_is = Denoiser("gaintuning", steps=1, options={"view": False}).run(samples)
    assert "stabilized" not in as_it_is.reason


def test_a_network_in_another_view_is_not_saved(tmp_path: Path, capsys: Any) -> None:
    _, noisy = micrograph(0.02, 0.0, 0.03)
    samples = (noisy[0, 0].numpy() * 255).round().astype(np.uint8)
    Image.fromarray(samples).save(tmp_path / "a.png")
    command = [str(tmp_path / "a.png"), "-m", "gaintuning", "--steps", "1"]
    command += ["--adapted-out", str(tmp_path / "a.safetensors")]
    for more, code in (([], 2), (["-O", "view=false"], 0)):
        with pytest.raises(SystemExit) as ended:
            main([*command, *more, "--overwrite"])
        assert ended.value.code == code
        assert (tmp_path / "a.safetensors").exists() == (code == 0)
        assert ("view=false" in capsys.readouterr().err) == (code == 2)


def test_a_picture_without_light_is_left_to_the_network() -> None:
    _, noisy = micrograph(0.5, 0.0, 0.0)
    told = Denoiser("gaintuning", noise="poisson:2").run(noisy[0, 0].numpy())
    assert told.steps == 0
    assert "photon" in str(told.warning)


class Collapsing(nn.Module):
    """Smooths away what differs from its surroundings by less than `reach`, and nothing else."""

    def __init__(self, reach: float = 0.35) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, pictures: Tensor) -> Tensor:
        smooth = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
        return smooth + torch.nn.functional.softshrink(pictures - smooth, self.reach)


@pytest.mark.parametrize(("sigma", "better"), [(20, False), (80, True)])
def test_noise_beyond_a_network_is_scaled_to_what_it_can(sigma: int, better: bool) -> None:
    clean, level = scene(128), NoiseLevel(0, (sigma / 255) ** 2)
    noisy = level.sample(clean, generator())
    everywhere = torch.ones_like(noisy[:, :1])
    network = Collapsing()
    view, ratio = views.best(network, noisy, level, everywhere, generator(1))
    assert (view is not None) == better
    if view is not None:
        before = (network(noisy) - clean).square().mean()
        after = (views.Shown(network, view)(noisy) - clean).square().mean()
        assert ratio == pytest.approx(float(after / before), rel=0.2)
        assert ratio < 0.9
        torch.testing.assert_close(view.inverse(view.forward(noisy)), noisy)


@pytest.mark.parametrize(
    ("spec", "uniform", "correlated"),
    [
        ("gaussian:10", True, False),
        ("gaussian:70", True, False),
        ("poisson:30", False, False),
        ("correlated:20,0.8", True, True),
    ],
)
def test_the_kind_of_noise_is_found(spec: str, uniform: bool, correlated: bool) -> None:
    noisy = noise.parse(spec).sample(scene(192), generator())
    assert noise_kind.is_correlated(noisy) == correlated
    if not correlated:
        assert noise_kind.is_uniform(noisy) == uniform


def test_auto_goes_by_the_noise_found() -> None:
    def run(spec: str) -> Any:
        noisy = noise.parse(spec).sample(scene(128)[:, :1], generator())[0, 0].numpy()
        return Denoiser("gaintuning", steps=1).run(noisy)

    assert "sure" in run("gaussian:30").reason
    assert "sure" in run("poisson:30").reason
    correlated = run("correlated:20,0.8")
    assert correlated.steps == 0
    assert "correlated" in str(correlated.warning)


def test_a_loss_that_does_not_fit_the_noise_is_warned_of() -> None:
    noisy = noise.parse("correlated:20,0.8").sample(scene(64)[:, :1], generator())[0, 0].numpy()
    asked = {"loss": "blind-spot", "validate": False}
    result = Denoiser("gaintuning", steps=1, options=asked).run(noisy)
    assert result.kept_step == 1
    assert "correlated" in str(result.warning)
    white = noise.parse("gaussian:20").sample(scene(64)[:, :1], generator())[0, 0].numpy()
    assert Denoiser("gaintuning", steps=1, options=asked).run(white).warning is None


@pytest.mark.slow
def test_a_level_that_is_estimated_may_be_too_high(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = scene(128)[0, 0].numpy()
    noisy = clean + np.random.default_rng(0).normal(0, 30 / 255, clean.shape).astype(np.float32)
    told = Denoiser("gaintuning", weights="unet-gray", noise="gaussian:33", steps=60).run(noisy)
    too_high = NoiseLevel(read=(33 / 255) ** 2)
    monkeypatch.setattr(noise_level, "estimate", lambda pictures: too_high)
    estimated = Denoiser("gaintuning", weights="unet-gray", steps=60).run(noisy)
    assert psnr(clean, estimated.samples) > psnr(clean, told.samples)


def test_a_told_level_follows_the_standardization() -> None:
    level = NoiseLevel(0.02, 0.001).standardized((0.4,), (0.25,))
    clean = torch.full((1, 1, 300, 300), 0.6)
    noisy = NoiseLevel(0.02, 0.001).sample(clean, generator())
    there = (noisy - 0.4) / 0.25
    x = (0.6 - 0.4) / 0.25
    assert float(there.var()) == pytest.approx(level.shot * x + level.read, rel=0.03)


@pytest.mark.parametrize(
    ("spec", "sigma"), [("gaussian:25", 25 / 255), ("poisson:50", 0.1), ("speckle:0.1", None)]
)
def test_specifications_are_told(spec: str, sigma: float | None) -> None:
    level = noise_level.known(spec)
    assert (None if level is None else pytest.approx(level.sigma)) == sigma


def test_a_range_is_no_knowledge() -> None:
    with pytest.raises(UsageError, match="one value"):
        Denoiser("gaintuning", noise="gaussian:0-55")


@pytest.mark.parametrize("loss", ["blind-spot", "sure", "resample"])
def test_tuning_lowers_its_loss(loss: str) -> None:
    torch.manual_seed(0)
    network = networks.build("dilated-unet").eval()
    noisy = noise.parse("gaussian:25").sample(scene(64)[:, :1], generator())
    level = NoiseLevel(0, (25 / 255) ** 2)
    method = load_method("gaintuning", {"loss": loss, "steps": 30, "lr": 0.02})
    adapted = method.adapt(network, noisy, generator=generator(), observer=Nobody(), noise=level)

    def value(predict: Any) -> float:
        with torch.no_grad():
            if loss == "sure":
                return float(objectives.sure(predict, noisy, level, generator(1)))
            if loss == "blind-spot":
                return float(objectives.blind_spot(predict, noisy, 0.05, generator(1)))
            return float(objectives.resample(predict, network(noisy), level, generator(1)))

    assert value(adapted.predict) < value(network)


@pytest.mark.slow
def test_noise_beyond_the_training_is_adapted_to() -> None:
    clean = scene(128)[0, 0].numpy()
    noisy = clean + np.random.default_rng(0).normal(0, 75 / 255, clean.shape).astype(np.float32)
    plain = psnr(clean, Denoiser("none", weights="unet-gray")(noisy))
    told = Denoiser("gaintuning", weights="unet-gray", noise="gaussian:75")
    assert psnr(clean, told(noisy)) > plain + 0.5


def test_the_default_is_as_good_in_gray_as_in_color() -> None:
    denoiser = Denoiser("gaintuning", noise="gaussian:25", steps=20)
    assert denoiser.weights == "unet"
    color = scene(96)[0].movedim(0, -1).numpy()
    gained = []
    for clean in (color, color[..., 0]):
        added = np.random.default_rng(0).normal(0, 25 / 255, clean.shape).astype(np.float32)
        gained.append(psnr(clean, denoiser(clean + added)) - psnr(clean, clean + added))
    assert min(gained) > 9


def test_a_gray_picture_is_probed_as_its_noise_is() -> None:
    gray = torch.rand(1, 1, 16, 16).expand(-1, 3, -1, -1)
    level = NoiseLevel(0, 0.01)
    noisy = level.sample(gray, generator())
    assert torch.equal(noisy[:, 0], noisy[:, 2])
    assert not torch.equal(noisy, gray)

    def mean(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=1, keepdim=True).expand_as(pictures)

    # Of what changes nothing the error is the noise; probed channel by channel it would be less.
    errors = objectives.sure_map(mean, noisy, level, generator())
    assert errors.mean() == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_steps_go_on_as_long_as_they_are_worth_it() -> None:
    y, x = np.mgrid[:64, :64]
    weave = (0.5 + 0.2 * np.sin(np.pi * (x + 0.5 * y) / 2)).astype(np.float32)
    added = np.random.default_rng(0).normal(0, 30 / 255, weave.shape).astype(np.float32)
    few, more = (
        Denoiser("gaintuning", noise="gaussian:30", steps=steps).run(weave + added)
        for steps in (60, 120)
    )
    assert (few.steps, more.steps) == (60, 120)
    assert psnr(weave, more.samples) > psnr(weave, few.samples) + 0.5
    smooth = scene(64)[0, 0].numpy()
    assert Denoiser("gaintuning", noise="gaussian:30").run(smooth + added).steps == 60


def test_gains_that_make_it_worse_are_not_kept() -> None:
    clean = scene(64)[0, 0].numpy()
    lost, kept = [], []
    for seed in range(2):
        added = np.random.default_rng(seed).normal(0, 25 / 255, clean.shape)
        noisy = clean + added.astype(np.float32)
        plain = psnr(clean, Denoiser("none", weights="unet")(noisy))
        for validate, changes in ((False, lost), (True, kept)):
            options = {"validate": validate, "lr": 0.1, "steps": 30}
            tuned = Denoiser("gaintuning", noise="gaussian:25", options=options)
            changes.append(psnr(clean, tuned(noisy)) - plain)
    assert min(lost) < -0.3
    assert min(kept) > -0.1


def test_checkpoints_of_other_recipes_can_be_tuned() -> None:
    noisy = noise.parse("gaussian:25").sample(scene(64), generator())[0, 0].numpy()
    options = {"validate": False}
    result = Denoiser("gaintuning", weights="ttt-mim", steps=1, options=options).run(noisy)
    assert (result.steps, result.kept_step) == (1, 1)
    assert "sure" in result.reason


@pytest.mark.parametrize(
    ("size", "spec"), [(64, "gaussian:25"), (64, "correlated:20,0.8"), (24, None)]
)
def test_a_network_that_takes_a_mask_sees_everything(size: int, spec: str | None) -> None:
    torch.manual_seed(0)
    network = networks.build("hourglass").eval()
    method = load_method("gaintuning", {"steps": 1})
    noisy = noise.parse(spec).sample(scene(size), generator()) if spec else scene(size)
    adapted = method.adapt(network, noisy, generator=generator(), observer=Nobody())
    more = 64 - size  # what is predicted is padded to what the network can take
    shown = torch.nn.functional.pad(noisy, (0, more, 0, more))
    with torch.no_grad():
        assert adapted.predict(shown).shape == shown.shape


def test_told_noise_of_another_kind_leaves_the_blind_spot() -> None:
    noisy = scene(64)[0, 0].numpy()
    assert "blind-spot" in Denoiser("gaintuning", steps=1, noise="speckle:0.1").run(noisy).reason
    with pytest.raises(UsageError, match="loss=blind-spot"):
        Denoiser("gaintuning", options={"loss": "sure"}, noise="speckle:0.1").run(noisy)


def test_noise_that_nobody_uses_is_refused() -> None:
    with pytest.raises(UsageError, match="make use"):
        Denoiser("none", noise="gaussian:25")


def test_a_tiny_picture_is_left_to_the_network() -> None:
    result = Denoiser("gaintuning").run(np.full((9, 12), 90, np.uint8))
    assert result.steps == 0
    assert "too small" in str(result.warning)


@pytest.mark.parametrize(("option", "message"), [("loss=magic", "one of"), ("crop=3", "crop")])
def test_wrong_options(option: str, message: str, tmp_path: Path, capsys: Any) -> None:
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "a.png"), "-m", "gaintuning", "-O", option])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_tells_the_noise(tmp_path: Path, capsys: Any) -> None:
    noisy = np.random.default_rng(0).normal(120, 40, (48, 64)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "a.png")
    command = [str(tmp_path / "a.png"), "-m", "gaintuning", "--steps", "2", "-v"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--noise", "gaussian:40"])
    assert ended.value.code == 0
    assert "sigma 0.157" in capsys.readouterr().err
    assert Image.open(tmp_path / "a_denoised.png").size == (64, 48)


def test_a_model_without_spandrel_says_what_to_install(tmp_path: Path) -> None:
    if find_spec("spandrel"):
        pytest.skip("spandrel is installed")
    torch.save({"weight": torch.ones(1)}, tmp_path / "model.pth")
    with pytest.raises(checkpoints.CheckpointError, match="spandrel"):
        checkpoints.load(tmp_path / "model.pth")
