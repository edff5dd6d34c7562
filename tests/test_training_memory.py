"""Memory that runs out in the midst of a training: real limits on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from denoise_cli import checkpoints

# How much of the address space a process holds varies, and so does how long halving takes.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="limits the address space as Linux counts it"
    ),
]

MEGABYTE = 2**20
# Trains a little first, so that libraries are loaded and threads have had their stacks, and
# then allows the process only so much beyond what it holds by now.
LIMITED = """
import os, resource, sys
import torch
from denoise_cli.cli import main
from denoise_cli.training import train

megabytes, rank, scratch, *arguments = sys.argv[1:]
launched = {name: os.environ.pop(name, "0") for name in ("RANK", "WORLD_SIZE")}
if launched["RANK"] == rank:
    data = arguments[arguments.index("--data") + 1]
    train(data=data, noise="gaussian:25", steps=1, patch=32, batch=2, out=scratch,
          config={"widths": [8, 16]}, device="cpu", precision="fp32")
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    limit = held + int(megabytes) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
if launched["WORLD_SIZE"] != "0":
    os.environ.update(launched)
main(arguments)
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        iio.imwrite(folder / f"{index}.png", noise)
    return folder


def train(
    photos: Path, *arguments: object, megabytes: int, rank: int = 0, launcher: tuple[str, ...] = ()
) -> tuple[int, list[str]]:
    """Train with `megabytes` to spare in the process `rank`: (exit code, lines of stderr)."""
    script = photos.parent / "limited.py"
    script.write_text(LIMITED)
    fixed = ["--data", photos, "--noise", "gaussian:25", "--device", "cpu", "--precision", "fp32",
             "--config", "widths=[8, 16]"]  # fmt: skip
    scratch = photos.parent / "scratch.safetensors"
    command = [*launcher, script, megabytes, rank, scratch, "train", *fixed, *arguments]
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=120,
        # One arena: each further one would take 64 MB of the address space, used or not.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )
    assert process.stdout == ""
    return process.returncode, process.stderr.splitlines()


def batches(lines: list[str]) -> list[int]:
    said = "out of memory; going on with batches of "
    return [int(line.removeprefix(said)) for line in lines if line.startswith(said)]


def test_a_batch_too_large_is_halved_until_it_fits(photos: Path, tmp_path: Path) -> None:
    out, spare, batch, patch = tmp_path / "n.safetensors", 1024, 65536, 96
    assert batch * patch**2 * 3 > spare * MEGABYTE  # not even the loader can hold it
    code, lines = train(photos, "--batch", batch, "--patch", patch, "--steps", 2, "-o", out,
                        megabytes=spare)  # fmt: skip
    assert code == 0, "\n".join(lines)
    found = batches(lines)
    assert found == [batch // 2 ** (i + 1) for i in range(len(found))]
    assert found[-1] >= 1
    assert checkpoints.read_header(out)["batch"] == found[-1]
    assert checkpoints.read_header(out)["steps"] == 2


def test_all_processes_halve_when_one_runs_out(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.safetensors"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    code, lines = train(photos, "--batch", 1024, "--patch", 32, "--steps", 2, "-o", out,
                        megabytes=512, rank=1, launcher=launcher)  # fmt: skip
    assert code == 0, "\n".join(lines)
    found = batches(lines)
    assert found[0] == 512
    assert checkpoints.read_header(out)["batch"] == 2 * found[-1]
