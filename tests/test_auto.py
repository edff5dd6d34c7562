"""The method auto: the default network, and an adapted one where that leaves less noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import photo
from PIL import Image
from test_validation import scene

from denoise_cli import Denoiser, checkpoints, noise
from denoise_cli.errors import UsageError
from denoise_cli.methods.auto import SECOND
from denoise_cli.metrics import psnr


def pair(spec: str, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A clean and a noisy picture (Y, X, 3) on 0..1."""
    clean = scene(size)
    noisy = noise.parse(spec).sample(clean, torch.Generator().manual_seed(1))
    return tuple(np.moveaxis(p[0].numpy(), 0, -1) for p in (clean, noisy))


def test_on_white_noise_the_mean_is_better_than_either() -> None:
    clean, noisy = pair("gaussian:25")
    first, second = (Denoiser("none", weights=name)(noisy) for name in ("ttt-mim", SECOND))
    together = Denoiser("auto")(noisy)
    np.testing.assert_allclose(together, (first + second) / 2, atol=2e-3)
    assert psnr(clean, together) > max(psnr(clean, first), psnr(clean, second))


def test_on_noise_that_only_the_first_knows_it_is_the_first_alone() -> None:
    clean, noisy = pair("correlated:25,1")
    result = Denoiser("auto").run(noisy)
    np.testing.assert_array_equal(result.samples, Denoiser("none")(noisy))
    assert [candidate.weight for candidate in result.candidates] == [1, 0]
    assert psnr(clean, result.samples) > psnr(clean, noisy) + 5


def test_on_noise_that_the_first_does_not_know_the_adapted_one_helps(tmp_path: Path) -> None:
    known = checkpoints.load(SECOND)  # stands for a default that knows white noise only
    path = tmp_path / "first.safetensors"
    checkpoints.save(path, known.network, {**known.metadata, "supports": ["none", "auto"]})
    clean, noisy = pair("correlated:25,1", size=192)
    result = Denoiser("auto", weights=str(path)).run(noisy)
    assert result.kept_step > 0
    assert [candidate.weight for candidate in result.candidates] == [0.5, 0.5]
    assert psnr(clean, result.samples) > psnr(clean, Denoiser("none", weights=SECOND)(noisy)) + 1


def test_it_says_what_it_compared(folder: Path, call: Callable[..., Any]) -> None:
    _, noisy = pair("gaussian:25")
    Image.fromarray(np.uint8(np.clip(noisy, 0, 1) * 255)).save("a.png")
    code, out, err = call("a.png", "-m", "auto", "--json", "-v", weights=False)
    record = json.loads(out)
    assert code == 0
    assert [c["name"] for c in record["candidates"]] == ["ttt-mim", f"{SECOND}, as is"]
    lines = "\n".join(err)
    for candidate in record["candidates"]:
        assert 0 < candidate["noise_left"] < 0.3
        assert f"{candidate['name']}: {candidate['noise_left']:.0%} of the noise left" in lines
    assert record["reason"] in lines


def test_the_budget_decides_what_is_tried() -> None:
    _, noisy = pair("correlated:25,1")
    fast, balanced, best = (
        Denoiser("auto", options={"budget": budget}).run(noisy)
        for budget in ("fast", "balanced", "best")
    )
    assert fast.steps == 0
    assert balanced.steps > 0
    assert not np.array_equal(best.samples, balanced.samples)
    turned = np.ascontiguousarray(np.rot90(noisy))
    again = Denoiser("auto", options={"budget": "best"})(turned)
    np.testing.assert_allclose(np.rot90(again, -1), best.samples, atol=5e-3)
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


def test_a_small_picture_gets_the_first_network_alone() -> None:
    _, noisy = pair("gaussian:25")
    part = np.ascontiguousarray(noisy[:40, :90])
    result = Denoiser("auto").run(part)
    np.testing.assert_array_equal(result.samples, Denoiser("none")(part))
    assert "too small" in result.reason
