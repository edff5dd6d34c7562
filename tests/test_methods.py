"""Every method of the registry keeps the contract of methods."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from test_validation import scene

from denoise_cli import Denoiser, checkpoints, methods, noise
from denoise_cli.errors import UsageError
from denoise_cli.metrics import psnr

# For every option another value than the default; whatever it is, it must change something.
OTHER: dict[str, dict[str, Any]] = {
    "none": {},
    "gaintuning": {"loss": "blind-spot", "steps": 1, "lr": 1e-3, "crop": 64},
    "ttt-mim": {
        "steps": 1,
        "lr": 1e-4,
        "mask_ratio": 0.2,
        "mask_patch": 7,
        "alpha": 0.1,
        "crop": 64,
        "validate": False,
    },
}


def noisy_scene(spec: str, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    clean = scene(size)
    noisy = noise.parse(spec).sample(clean, torch.Generator().manual_seed(1))
    return tuple(np.moveaxis(p[0].numpy(), 0, -1) for p in (clean, noisy))  # type: ignore[return-value]


@pytest.fixture(params=list(methods.METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_table_of_other_values_is_complete(method: str) -> None:
    names = [f.name for f in fields(methods.method_class(method))]
    assert set(names) == set(OTHER[method])


@pytest.mark.parametrize("gray", [False, True])
def test_it_improves_a_noisy_picture_and_leaves_it_alone(method: str, gray: bool) -> None:
    clean, noisy = noisy_scene("gaussian:25")
    if gray:
        clean, noisy = clean[..., 0], noisy[..., 0]
    before = noisy.copy()
    denoised = Denoiser(method)(noisy)
    np.testing.assert_array_equal(noisy, before)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == noisy.dtype
    assert psnr(clean, denoised) > psnr(clean, noisy) + 4


def test_the_network_is_left_as_it_was_found(method: str) -> None:
    denoiser = Denoiser(method)
    before = copy.deepcopy(denoiser._network.state_dict())
    _, noisy = noisy_scene("correlated:30,1")
    first = denoiser(noisy)
    after = denoiser._network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    np.testing.assert_array_equal(denoiser(noisy), first)


@pytest.mark.parametrize("name", [(m, o) for m in OTHER for o in OTHER[m]], ids="-".join)
def test_every_option_changes_the_result(name: tuple[str, str]) -> None:
    method, option = name
    # Noise the network does not know, so that an adaptation is kept.
    _, noisy = noisy_scene("correlated:40,1.2", 128)
    usual = {"lr": 2e-4, "steps": 3, "validate": False}
    if option == "validate":
        usual = {"lr": 0.05, "steps": 2, "validate": True}
    other = {**usual, option: OTHER[method][option]}
    first, second = (Denoiser(method, options=options)(noisy) for options in (usual, other))
    assert not np.array_equal(first, second)


def test_seeds() -> None:
    _, noisy = noisy_scene("correlated:40,1.2")
    options = {"validate": False, "lr": 2e-4, "steps": 2}

    def run(seed: int) -> np.ndarray:
        return Denoiser("ttt-mim", options=options, seed=seed)(noisy)

    np.testing.assert_array_equal(run(3), run(3))
    assert not np.array_equal(run(3), run(4))


def test_adaptation_helps_on_unknown_noise_and_says_by_how_much() -> None:
    clean, noisy = noisy_scene("correlated:30,0.8", 192)
    known = gaussian_only()
    plain = Denoiser("none", weights=known)(noisy)
    result = Denoiser("ttt-mim", weights=known).run(noisy)
    gain = psnr(clean, result.samples) - psnr(clean, plain)
    assert result.kept_step > 0
    assert gain > 0.5
    assert result.gain_db == pytest.approx(gain, abs=max(1.0, 0.6 * gain))


def test_known_noise_is_left_to_the_pretrained_network() -> None:
    clean, noisy = noisy_scene("gaussian:25", 192)
    known = gaussian_only()
    plain = Denoiser("none", weights=known)(noisy)
    result = Denoiser("ttt-mim", weights=known).run(noisy)
    assert psnr(clean, result.samples) > psnr(clean, plain) - 0.05


def gaussian_only() -> str:
    return next(n for n in checkpoints.names() if n.endswith("-gaussian"))


def test_an_adaptation_that_runs_away_is_refused() -> None:
    _, noisy = noisy_scene("gaussian:25")
    result = Denoiser("ttt-mim", options={"lr": 0.05}).run(noisy)
    assert result.kept_step == 0
    assert "none of" in result.reason
    np.testing.assert_array_equal(result.samples, Denoiser("none")(noisy))


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


def test_options_are_described(method: str) -> None:
    summary, options = methods.describe(method)
    assert summary.endswith(".")
    assert all(text for _, _, _, text in options)
