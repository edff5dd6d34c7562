"""The examples and the README's commands run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "data"


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_python_api(tmp_path: Path) -> None:
    told = run(sys.executable, str(ROOT / "examples/python_api.py"), cwd=tmp_path)
    assert "step" in told
    with Image.open(tmp_path / "denoised.png") as picture:
        assert (picture.mode, picture.size) == ("L", (512, 512))


def test_before_after(tmp_path: Path) -> None:
    script, picture = ROOT / "examples/before_after.py", DATA / "osprey.png"
    run(sys.executable, str(script), "out.png", str(picture), cwd=tmp_path)
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.size == (600, 400)


def readme_commands() -> list[str]:
    """Every `denoise ...` line in the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.match(r"(\S*/)?denoise ", line)]


def test_the_readme_has_commands() -> None:
    assert len(readme_commands()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("command", readme_commands())
def test_readme_command(command: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    words = re.sub(r"^\S*denoise", "", command.partition("  #")[0]).split()
    if "train" in words:
        words += ["--steps", "20"]
        words = ["examples/data" if word == "photos/" else word for word in words]
    run(sys.executable, "-m", "denoise_cli", *words, cwd=tmp_path)
