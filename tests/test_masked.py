"""Masked image training, and denoising with averaged masked passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import photos  # noqa: F401
from test_validation import scene
from torch import Tensor, nn

from denoise_cli import Denoiser, checkpoints, methods, networks
from denoise_cli.errors import UsageError
from denoise_cli.masking import HIDDEN_VALUE, masked_passes, pixel_mask
from denoise_cli.metrics import psnr
from denoise_cli.training import Progress, train
from denoise_cli.training.joint_mim import JointMIM
from denoise_cli.training.masked import MaskedImageTraining

SWIN: dict[str, Any] = {"width": 12, "depths": [2], "heads": 2}


class Witness(nn.Module):
    """Gives its input back and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, noisy: Tensor) -> Tensor:
        self.seen.append(noisy)
        return noisy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.8])
def test_each_pixel_is_hidden_by_itself(ratio: float) -> None:
    mask = pixel_mask(torch.rand(4, 3, 64, 65), ratio, generator(), shared=True)
    assert mask.shape == (4, 1, 64, 65)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert float(1 - mask.mean()) == pytest.approx(ratio, abs=0.02)
    # Unlike a draw without replacement, the number differs from mask to mask.
    assert ratio == 0 or len(mask.sum(dim=(1, 2, 3)).unique()) > 1
    neighbors = (1 - mask[..., 1:]) * (1 - mask[..., :-1])
    assert float(neighbors.mean()) == pytest.approx(ratio**2, abs=0.02)


def test_each_pixel_is_hidden_in_as_many_passes() -> None:
    network, pictures = Witness(), torch.rand(1, 3, 40, 56) + 0.01
    result = masked_passes(network, pictures, 0.75, 8, generator())
    assert len(network.seen) == 8
    # Back in its place, a pixel is as it was in two passes of eight, and hidden in the others.
    expected = (2 * pictures + 6 * HIDDEN_VALUE) / 8
    assert torch.allclose(result, expected, atol=1e-6)
    assert len({tuple(seen.flatten().tolist()) for seen in network.seen}) == 8


def test_training_hides_all_channels_of_most_pixels() -> None:
    network = Witness()
    noisy, clean = torch.rand(32, 3, 32, 32) + 0.01, torch.rand(32, 3, 32, 32)
    loss, _ = MaskedImageTraining(mask="0.5-0.9").loss(network, noisy, clean, generator())
    seen = network.seen[0]
    hidden = seen == HIDDEN_VALUE
    assert torch.equal(hidden.all(dim=1), hidden.any(dim=1))
    assert torch.equal(seen[~hidden], noisy[~hidden])
    shares = hidden.float().mean(dim=(1, 2, 3))
    assert 0.45 < shares.min() < 0.6
    assert 0.8 < shares.max() < 0.95
    # All pixels count, not the hidden ones alone.
    assert float(loss) == pytest.approx(float((seen - clean).abs().mean()))


def test_joint_training_can_hide_pixels_from_the_main_head() -> None:
    torch.manual_seed(0)
    network = networks.build("mim-resunet", widths=(8, 8))
    noisy, clean = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)

    def parts(mask: str) -> dict[str, float]:
        losses = JointMIM(mask=mask).loss(network, noisy, clean, generator())[1]
        return {name: loss.item() for name, loss in losses.items()}

    whole, hidden = parts("0"), parts("0-0.9")
    assert hidden["auxiliary"] == whole["auxiliary"]  # it has a mask of its own
    assert hidden["main"] != whole["main"]
    with pytest.raises(UsageError, match=r"0-0\.8"):
        JointMIM(mask="0.5-0.8")


def test_the_swin_network_has_its_attention_masked_too() -> None:
    torch.manual_seed(0)
    network = networks.build("masked-swin", **SWIN)
    noisy, clean = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)

    def loss(attention_mask: float) -> float:
        recipe = MaskedImageTraining(mask="0", attention_mask=attention_mask)
        return recipe.loss(network, noisy, clean, generator())[0].item()

    assert loss(0.0) != loss(0.9)
    visible = network.draw_visible(noisy, 0.75, generator())
    assert len(visible) == network.layers
    assert not torch.equal(visible[0], visible[1])
    assert float(1 - torch.stack(visible).mean()) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("mask", ["much", "0.9-0.8", "1", "-0.1", ""])
def test_a_bad_mask_is_named(mask: str) -> None:
    with pytest.raises(UsageError, match=r"0\.8-0\.95"):
        MaskedImageTraining(mask=mask)


def test_it_learns_to_fill_in(photos: Path, tmp_path: Path) -> None:  # noqa: F811
    seen: list[Progress] = []
    out = train(
        "masked", data=photos, out=tmp_path / "n.safetensors", noise="gaussian:15", steps=200,
        config={"channels": 3}, patch=32, batch=4, device="cpu", precision="fp32",
        progress=seen.append,
    )  # fmt: skip
    assert seen[-1].loss < 0.8 * seen[0].loss
    clean = np.moveaxis(scene(64)[0].numpy(), 0, -1)
    noisy = clean + np.random.default_rng(0).normal(0, 60 / 255, clean.shape).astype(np.float32)
    denoised = Denoiser("masked", weights=str(out))(noisy)
    assert psnr(clean, denoised) > psnr(clean, noisy) + 2


@pytest.fixture(scope="module")
def swin(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "swin.safetensors"
    network = networks.build("masked-swin", **SWIN)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "qkv" in name or "project" in name:
                value.mul_(10)  # untrained attention does next to nothing
    checkpoints.save(path, network, {"network": "masked-swin", "supports": ["none", "masked"]})
    return str(path)


def run(weights: str | None = None, seed: int = 0, **options: Any) -> np.ndarray:
    noisy = np.moveaxis(scene(64)[0].numpy(), 0, -1)
    noisy = noisy + np.random.default_rng(0).normal(0, 0.2, noisy.shape).astype(np.float32)
    kind = {"device": "cpu", "precision": "fp32"}
    return Denoiser("masked", weights=weights, options=options, seed=seed, **kind)(noisy)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["default", "swin"])
def test_more_passes_bring_the_seeds_together(kind: str, swin: str) -> None:
    weights = swin if kind == "swin" else None

    def spread(passes: int) -> float:
        first, second = (run(weights, seed=s, passes=passes) for s in (1, 2))
        return float(((first - second) ** 2).mean())

    # The variance of an average falls with the number of passes: fourfold, to be sure.
    assert spread(8) < spread(1) / 4


def test_the_swin_network_sees_all_pixels(swin: str) -> None:
    network = checkpoints.load(swin).network
    noisy = np.moveaxis(scene(64)[0].numpy(), 0, -1)
    with torch.no_grad():
        expected = network(scene(64))[0].permute(1, 2, 0).numpy()
    denoiser = Denoiser(
        "masked", weights=swin, options={"mask_ratio": 0, "passes": 1}, device="cpu",
        precision="fp32",
    )  # fmt: skip
    assert np.abs(denoiser(noisy) - expected).max() < 1e-5


def test_tiles_of_any_order_get_the_same_masks() -> None:
    denoiser = Denoiser("masked", tile=64, overlap=16, options={"passes": 1})
    noisy = np.random.default_rng(0).random((100, 90, 3), np.float32)
    np.testing.assert_array_equal(denoiser(noisy), denoiser(noisy))


def test_bad_options_are_named() -> None:
    with pytest.raises(UsageError, match="passes"):
        methods.load_method("masked", {"passes": 0})
    with pytest.raises(UsageError, match="mask_ratio"):
        methods.load_method("masked", {"mask_ratio": 1})
