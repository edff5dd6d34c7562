"""Models of other programs, recognized by spandrel; built here with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from denoise_cli import Denoiser, checkpoints, noise, objectives
from denoise_cli.errors import CheckpointError
from denoise_cli.foreign import library
from denoise_cli.gains import with_gains
from denoise_cli.networks.foreign import LevelInput
from denoise_cli.noise_level import NoiseLevel

try:
    spandrel = library(Path("a model"))
except CheckpointError as reason:
    pytest.skip(f"spandrel cannot be used here: {reason}", allow_module_level=True)

from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.DRUNet import DRUNet
from spandrel.architectures.ESRGAN import ESRGAN


def dncnn(**others: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return DnCNN(in_nc=1, out_nc=1, nc=16, nb=17, act_mode="R", **others)


def noisy_picture(size: int = 64) -> np.ndarray:
    clean = torch.linspace(0.2, 0.8, size).expand(1, 1, size, size)
    generator = torch.Generator().manual_seed(0)
    return noise.parse("gaussian:25").sample(clean, generator)[0, 0].numpy()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_model_file_runs_plain_and_tuned(tmp_path: Path, suffix: str) -> None:
    model, path = dncnn(), tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save({"params": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    noisy = noisy_picture()
    pictures = torch.from_numpy(noisy)[None, None]
    with torch.no_grad():
        expected = model.eval()(pictures)[0, 0].numpy()
        tuned, _ = with_gains(checkpoints.load(path).network)
        np.testing.assert_allclose(tuned(pictures)[0, 0].numpy(), expected, atol=1e-5)
    plain = Denoiser("none", weights=str(path), precision="fp32")(noisy)
    np.testing.assert_allclose(plain, expected, atol=1e-4)
    options = {"steps": 20, "lr": 0.02}
    denoiser = Denoiser("gaintuning", weights=str(path), options=options, noise="gaussian:25")
    after = torch.from_numpy(denoiser(noisy))[None, None]
    level = NoiseLevel(read=(25 / 255) ** 2)
    # Gains alone can scale what the network takes away: its loss must fall.
    network = checkpoints.load(path).network

    def error(result: torch.Tensor) -> float:
        return float((result - torch.linspace(0.2, 0.8, 64)).square().mean())

    with torch.no_grad():
        before = objectives.sure(network, pictures, level, torch.Generator().manual_seed(1))
    assert np.isfinite(float(before))
    assert error(after) < error(torch.from_numpy(expected))


def test_a_noise_level_input_is_told_the_level(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DRUNet(in_nc=2, out_nc=1, nc=[8, 8, 8, 8], nb=2, act_mode="R")
    torch.save(model.state_dict(), tmp_path / "drunet.pth")
    network = checkpoints.load(tmp_path / "drunet.pth").network
    assert isinstance(network, LevelInput)
    with pytest.raises(ValueError, match="noise level"):
        network(torch.rand(1, 1, 64, 64))
    noisy = noisy_picture()
    path = str(tmp_path / "drunet.pth")
    told = [Denoiser("none", weights=path, noise=f"gaussian:{s}")(noisy) for s in (25, 60)]
    estimated = Denoiser("none", weights=path)(noisy)
    assert np.abs(told[0] - estimated).max() < np.abs(told[0] - told[1]).max()


def test_an_enlarging_model_is_refused(tmp_path: Path) -> None:
    torch.save(ESRGAN(num_blocks=1, num_filters=8).state_dict(), tmp_path / "x4.pth")
    with pytest.raises(CheckpointError, match="times as large"):
        checkpoints.load(tmp_path / "x4.pth")


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "was-run",))

    torch.save({"params": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError):
        checkpoints.load(tmp_path / "evil.pth")
    assert not (tmp_path / "was-run").exists()


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="does not know"):
        checkpoints.load(tmp_path / "odd.pth")
    assert spandrel.__version__
