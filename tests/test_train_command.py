"""`denoise train` as a user runs it: real processes that are stopped, killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from test_measured import sensor, store
from test_validation import scene

from denoise_cli import Denoiser, checkpoints

SMALL = ["--patch", "32", "--batch", "4", "--device", "cpu", "--precision", "fp32"]
TINY = [*SMALL, "--config", "widths=[8, 16]"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    picture = (np.moveaxis(scene(128)[0].numpy(), 0, -1).clip(0, 1) * 255).astype(np.uint8)
    for index in range(8):
        iio.imwrite(folder / f"{index}.png", np.roll(picture, 20 * index, axis=index % 2))
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "denoise_cli", "train", *map(str, arguments)]


def run(*arguments: object, code: int = 0) -> str:
    process = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert process.returncode == code, process.stderr
    assert process.stdout == ""
    return process.stderr


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(path).network.state_dict()


def start_and_signal(number: int, out: Path, *arguments: object) -> tuple[int, str]:
    """Start a training, send it a signal once its state is there, and see it end."""
    process = subprocess.Popen(
        command(*arguments, "-o", out, "--save-every", "0.2s"),
        stderr=subprocess.PIPE,
        text=True,
    )
    state = out.with_suffix(".state")
    ends = time.monotonic() + 60
    while not state.exists() and time.monotonic() < ends:
        time.sleep(0.01)
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert state.exists(), errors
    return process.returncode, errors


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM, signal.SIGINT]
)
def test_stopped_and_resumed_equals_uninterrupted(
    number: int, photos: Path, tmp_path: Path
) -> None:
    arguments = ["--data", photos, "--noise", "gaussian:25", "--steps", "200", *TINY]
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    run(*arguments, "-o", whole)
    code, errors = start_and_signal(number, parts, *arguments)
    assert code != 0
    if number != signal.SIGKILL:
        assert code == 130
        assert "--resume" in errors
    run(*arguments, "-o", parts, "--resume")
    first, second = weights_of(whole), weights_of(parts)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not parts.with_suffix(".state").exists()


SAY_THREADS = """
import atexit, sys
from pathlib import Path
from denoise_cli.cli import main

def say():
    names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    print("threads at exit:", *sorted(names), file=sys.stderr, flush=True)

atexit.register(say)
main()
"""


def test_two_processes_share_the_work(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.safetensors"
    arguments = ["train", "--data", photos, "--noise", "gaussian:25", "--steps", "30", *TINY]
    script = tmp_path / "denoise_and_say_threads.py"
    script.write_text(SAY_THREADS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node", "2", script]  # fmt: skip
    process = subprocess.run(
        [*launcher, *map(str, arguments), "-o", out],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("written; use it") == 1
    assert checkpoints.read_header(out)["batch"] == 8
    # A thread of the connection that is there when the interpreter ends aborts it now and then.
    assert process.stderr.count("threads at exit") == 2
    assert "gloo" not in process.stderr
    # Each has patches of its own, so it is not the run of one process.
    run(*arguments[1:], "-o", tmp_path / "one.safetensors")
    first, second = weights_of(out), weights_of(tmp_path / "one.safetensors")
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_noise_of_ones_own(photos: Path, tmp_path: Path) -> None:
    frames = tmp_path / "darks"
    frames.mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        store(frames / f"{index}.tif", sensor(np.full((160, 160, 3), 0.2), rng))
    out = tmp_path / "mine.safetensors"
    errors = run("--data", photos, "--noise", f"measured:{frames}", "--init", "none",
                 "--steps", "60", *TINY, "-o", out)  # fmt: skip
    assert "4 frames" in errors
    assert (tmp_path / "mine.noise.png").stat().st_size > 1000
    assert (tmp_path / "mine.preview.png").stat().st_size > 1000
    header = checkpoints.read_header(out)
    assert header["measured"]["frames"] == 4
    assert header["val_psnr"] > 10


def test_pairs(tmp_path: Path) -> None:
    clean, noisy = tmp_path / "clean", tmp_path / "noisy"
    clean.mkdir()
    noisy.mkdir()
    picture = np.moveaxis(scene(128)[0].numpy(), 0, -1).clip(0, 1)
    rng = np.random.default_rng(0)
    for index in range(6):
        shifted = np.roll(picture, 20 * index, axis=index % 2)
        store(clean / f"{index}.tif", shifted)
        store(noisy / f"{index}.tif", shifted + 0.1 * rng.standard_normal(shifted.shape))
    out = tmp_path / "pairs.safetensors"
    run("--pairs", noisy, clean, "--recipe", "supervised", "--steps", "300", *SMALL,
        "--config", "channels=3", "--config", "residual=true", "-o", out)  # fmt: skip
    denoised = Denoiser("none", weights=str(out))(iio.imread(noisy / "0.tif")) / 65535
    before = np.square(iio.imread(noisy / "0.tif") / 65535 - picture).mean()
    assert np.square(denoised - picture).mean() < 0.5 * before
    (noisy / "extra.tif").write_bytes((noisy / "0.tif").read_bytes())
    errors = run("--pairs", noisy, clean, *TINY, "-o", tmp_path / "n.safetensors", code=2)
    assert "no partner by name for extra.tif" in errors


def test_noisy_pictures_alone(tmp_path: Path) -> None:
    picture = np.moveaxis(scene(128)[0].numpy(), 0, -1).clip(0, 1)
    rng = np.random.default_rng(0)
    (tmp_path / "noisy").mkdir()
    for index in range(6):
        shifted = np.roll(picture, 20 * index, axis=index % 2)
        made = shifted + 0.1 * rng.standard_normal(shifted.shape)
        store(tmp_path / "noisy" / f"{index}.tif", made)
    out = tmp_path / "blind.safetensors"
    run("--noisy", tmp_path / "noisy", "--steps", "400", *TINY, "-o", out)
    header = checkpoints.read_header(out)
    assert header["recipe"] == "noise2void"
    assert header["val_psnr"] is None
    noisy = iio.imread(tmp_path / "noisy" / "0.tif")
    before = np.square(noisy / 65535 - picture).mean()
    for method in header["supports"]:
        denoised = Denoiser(method, weights=str(out), steps=None)(noisy) / 65535
        assert np.square(denoised - picture).mean() < 0.75 * before


def test_a_blind_spot_network_learns_from_noisy_pictures(tmp_path: Path) -> None:
    clean = scene(96)[0, 0].numpy().clip(0, 1)
    rng = np.random.default_rng(0)
    (tmp_path / "noisy").mkdir()
    for index in range(4):
        made = np.roll(clean, 20 * index, axis=1) + 0.1 * rng.standard_normal(clean.shape)
        store(tmp_path / "noisy" / f"{index}.tif", made)
    out = tmp_path / "blind.safetensors"
    run("--noisy", tmp_path / "noisy", "--steps", "120", "--network", "blind-spot",
        "--config", "channels=1", "--config", "width=8", "--patch", "64", "--batch", "1",
        "--lr", "0.01", "-o", out)  # fmt: skip
    assert checkpoints.read_header(out)["supports"] == ["none", "gaintuning"]
    noisy = iio.imread(tmp_path / "noisy" / "0.tif")
    before = np.square(noisy / 65535 - clean).mean()
    for method, steps in (("none", None), ("gaintuning", 5)):
        denoised = Denoiser(method, weights=str(out), steps=steps)(noisy) / 65535
        assert np.square(denoised - clean).mean() < 0.75 * before


def test_gray_networks_learn_gray(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "gray.safetensors"
    run("--data", photos, "--recipe", "supervised", "--noise", "gaussian:25", "--steps", "300",
        *SMALL, "--config", "bias=false", "-o", out)  # fmt: skip
    config = checkpoints.read_header(out)["config"]
    assert config == {"channels": 1, "bias": False, "residual": False}
    clean = scene(64)[0, 0].numpy()
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    denoised = Denoiser("none", weights=str(out))(noisy)
    assert np.square(denoised - clean).mean() < 0.6 * np.square(noisy - clean).mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of --data, --pairs and --noisy"),
        (["--data", "PHOTOS"], "what noise?"),
        (["--data", "PHOTOS", "--noise", "measured:nowhere"], "no pictures there"),
        (["--data", "PHOTOS", "--noise", "gaussian:5", "-O", "magic=1"], "no option 'magic'"),
        (["--data", "PHOTOS", "--noise", "gaussian:5", "-O", "share=x"], "takes float"),
        (["--data", "PHOTOS", "--noise", "gaussian:5", "--time", "soon"], "20m"),
        (["--data", "PHOTOS", "--noise", "gaussian:5", "--batch", "many"], "--batch"),
        (["--data", "PHOTOS", "--noise", "gaussian:5", "--config", "widths=wide"], "--config"),
        (["--noisy", "PHOTOS", "--noise", "gaussian:5"], "leave it out"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, photos: Path, tmp_path: Path) -> None:
    arguments = [str(photos) if each == "PHOTOS" else each for each in arguments]
    errors = run(*arguments, "-o", tmp_path / "n.safetensors", code=2)
    assert len(errors.strip().splitlines()) == 1
    assert message in errors
    assert not list(tmp_path.iterdir())
