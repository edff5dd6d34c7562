"""The examples and the README's commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
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
    with Image.open(DATA / "brain_two_photon.png") as picture:
        picture.crop((100, 60, 228, 188)).save(tmp_path / "part.png")
    told = run(sys.executable, str(ROOT / "examples/python_api.py"), "part.png", cwd=tmp_path)
    assert re.fullmatch(r"denoised\.png: .+ \(\d+\.\d s\)\n", told)
    with Image.open(tmp_path / "denoised.png") as picture:
        assert (picture.mode, picture.size) == ("L", (128, 128))


def test_before_after(tmp_path: Path) -> None:
    script = ROOT / "examples/before_after.py"
    with Image.open(DATA / "osprey.png") as picture:
        picture.crop((300, 100, 390, 160)).save(tmp_path / "part.png")
    run(sys.executable, str(script), "out.png", "part.png", cwd=tmp_path)
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.size == (600, 400)


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str], str]:
    """Run a script of examples/ in an empty folder, with `denoise` and `python` of these tests."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    # What is done is tested here, not how well: a fraction of the steps will do.
    (commands / "denoise").write_text(f"""#!/bin/sh
case "$1 $*" in
    info*|evaluate*|train*|compare*|weights*|methods*|*"--method none"*) ;;
    *) set -- "$@" --steps 4 ;;
esac
exec "{sys.executable}" -m denoise_cli "$@"
""")
    for command in commands.iterdir():
        command.chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"}

    def run_script(name: str) -> str:
        done = subprocess.run(
            [ROOT / "examples" / name],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout + done.stderr

    return run_script


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts need bash")


@needs_bash
def test_day_of_a_photographer(shell: Callable[[str], str], tmp_path: Path) -> None:
    told = shell("photo.sh")
    assert "2 done, 1 failed" in told
    clean = tmp_path / "photo_results" / "clean"
    assert sorted(path.name for path in clean.rglob("*.*")) == ["osprey.jpg", "osprey.png"]
    with Image.open(clean / "tuesday" / "osprey.jpg") as photo:
        assert photo.getexif()[272] == "One"
    page = (tmp_path / "photo_results" / "report.html").read_text(encoding="utf-8")
    assert page.count('<figure class="compare"') == 2
    assert "broken.png" in page


@needs_bash
def test_day_of_a_microscopist(shell: Callable[[str], str]) -> None:
    told = shell("microscopy.sh")
    assert "(4, 144, 144) uint16, axes ZYX: kept" in told
    assert "variance" in told


@needs_bash
def test_day_of_a_pipeline_engineer(shell: Callable[[str], str]) -> None:
    told = shell("pipeline.sh")
    assert "(2, 160, 160) uint16 from the pipe" in told
    assert "all in pipeline_results" in told


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
