"""What all tests share: the same random numbers and few threads on every machine."""

import os

# Read by numerical libraries when they load; test processes are many and small.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nobody's own checkpoints take part, and nothing is downloaded but from the tests' server.
os.environ["DENOISE_CACHE"] = os.path.join(os.path.dirname(__file__), "no-such-cache")
os.environ["DENOISE_OFFLINE"] = "1"
os.environ.pop("DENOISE_WEIGHTS_URL", None)

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A checkpoint of a network small enough to adapt in a blink."""
    import torch

    from denoise_cli import checkpoints, networks

    torch.manual_seed(0)
    network = networks.build("mim-resunet", widths=[8, 16], blocks=1)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoints.save(path, network, {"network": "mim-resunet", "supports": ["none", "ttt-mim"]})
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys, tiny):
    """Run the command line here: (exit code, stdout, the lines of stderr)."""

    from denoise_cli.cli import main

    def run(*args, weights=True):
        given = ["-w", str(tiny), "--device", "cpu", "--precision", "fp32"] if weights else []
        with pytest.raises(SystemExit) as exit_:
            main([str(arg) for arg in args] + given)
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err.splitlines()

    return run


@pytest.fixture
def fast(call):
    """The same with two steps, which is enough where only files and messages matter."""

    def run(*args):
        return call(*args, "--steps", "2", "-O", "crop=64")

    return run
