"""A picture that takes long says beforehand how long."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from test_mpi import checkpoint, noisy_and_clean

from denoise_cli import Denoiser
from denoise_cli.forecast import Forecast
from denoise_cli.image import Image, Stack

# What is long is a matter of seconds here, not of minutes.
SCRIPT = """
import denoise_cli.forecast, denoise_cli.cli.report
denoise_cli.forecast.LONG = denoise_cli.cli.report.LONG = 0
denoise_cli.cli.main()
"""
LINE = r"large\.png: takes about \d+ (s|min); --option passes=20 or a smaller picture is quicker"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.png"
    noisy, _ = noisy_and_clean(256)
    iio.imwrite(path, (255 * noisy.clip(0, 1)).astype(np.uint8))
    return path


def run(script: str, folder: Path, *arguments: str) -> tuple[str, str]:
    settings = ["-m", "mpi", "--weights", checkpoint(folder), "--tile", "128"]
    settings += ["--steps", "20", "-O", "passes=2", "-O", "crop=64"]
    command = [sys.executable, "-c", script, "large.png", "--overwrite", *settings]
    process = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


def test_people_are_told_before_the_work(large: Path) -> None:
    out, err = run(SCRIPT, large.parent)
    assert out == ""
    first, *_, last = err.splitlines()
    assert re.fullmatch(LINE, first), err
    assert last.startswith("large.png -> ")
    out, err = run(SCRIPT, large.parent, "--quiet", "--json")
    assert (out.count("\n"), err) == (1, "")


def test_what_is_quick_says_nothing(large: Path) -> None:
    _, err = run("import denoise_cli.cli; denoise_cli.cli.main()", large.parent)
    assert "takes about" not in err


@pytest.mark.parametrize("adapt", ["stack", "slice"])
def test_the_forecast_comes_true(
    adapt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoise_cli.forecast.LONG", 0.0)
    options = {"passes": 6, "crop": 64}
    denoiser = Denoiser("mpi", weights=checkpoint(tmp_path), tile=192, steps=40, options=options)
    planes = np.stack([noisy_and_clean(320)[0]] * 2)
    told: list[float] = []
    outcome = denoiser.stream(
        Stack.of(Image(planes, "ZYXS")), lambda done: done.read(), adapt=adapt, expect=told.append
    )
    # Other work on the machine may slow down any part.
    assert outcome.seconds / 2.5 < told[-1] < outcome.seconds * 2.5


def test_what_comes_before_the_first_step_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoise_cli.forecast.LONG", 0.0)
    told: list[float] = []
    noisy = np.zeros((1, 3, 32, 32), np.float32)
    sizes = {"tile": 0, "overlap": 0, "planes": 1, "adaptations": 1}
    forecast = Forecast(told.append, lambda predict, part: part, noisy, **sizes)
    forecast.unadapted(lambda pictures: pictures)
    time.sleep(1)
    for step in range(1, 9):
        time.sleep(0.02)
        forecast.step(step, 8)
    assert told
    assert max(told) < 3  # eight times the first would be more than 8


def test_the_forecast_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoise_cli.forecast.LONG", 0.0)
    noisy, _ = noisy_and_clean(128)
    denoiser = Denoiser("mpi", weights=checkpoint(tmp_path), steps=20)
    found: list[np.ndarray] = []
    told: list[float] = []
    for expect in (None, told.append):
        denoiser.stream(
            Stack.of(Image(noisy, "YXS")), lambda d: found.append(d.read().samples), expect=expect
        )
    assert told
    assert found[0].tobytes() == found[1].tobytes()


def test_a_second_adaptation_is_timed_anew() -> None:
    """Its first step comes long after the first of the one before."""
    told: list[float] = []
    noisy = np.zeros((1, 3, 64, 64), np.float32)
    forecast = Forecast(
        told.append, lambda _, part: part, noisy, tile=0, overlap=0, planes=1, adaptations=1
    )
    forecast.unadapted(lambda pictures: pictures)
    for done in range(1, 9):
        time.sleep(0.02)
        forecast.step(done, 8)
    time.sleep(0.5)
    for done in range(1, 4):
        time.sleep(0.02)
        forecast.step(done, 160)
    assert told == []
