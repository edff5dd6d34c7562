"""What several tests share: pictures, and the command line as a process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def start(*args, **settings):
    command = [sys.executable, "-m", "denoise_cli", *map(str, args), "--device", "cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, env=environment, **pipes, **settings)


def noisy(shape=(64, 64, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(path="photo.png", shape=(64, 64, 3), seed=0):
    Image.fromarray(noisy(shape, seed)).save(path)
    return Path(path)


def files_below(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")}
