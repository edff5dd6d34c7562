"""Every network of the registry keeps its contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from denoise_cli import checkpoints, networks
from denoise_cli.errors import UsageError
from denoise_cli.masking import patch_mask


@pytest.fixture(params=sorted(networks.NETWORKS))
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.build(request.param).eval()


@torch.no_grad()
def test_shapes(network: torch.nn.Module) -> None:
    multiple = network.multiple_of
    side = max(network.minimum, 2 * multiple)
    noisy = torch.rand(1, 3, side, side + multiple)
    assert network(noisy).shape == noisy.shape
    mask = patch_mask(1, (side, side + multiple), 0.4, 4)
    assert network.reconstruct(noisy, mask).shape == noisy.shape


@torch.no_grad()
def test_joint_equals_its_two_halves(network: torch.nn.Module) -> None:
    noisy, masked = torch.rand(2, 3, 64, 64), torch.rand(1, 3, 64, 64)
    mask = patch_mask(1, (64, 64), 0.4, 4)
    denoised, reconstruction = network.joint(noisy, masked, mask)
    assert torch.allclose(denoised, network(noisy), atol=1e-4)
    assert torch.allclose(reconstruction, network.reconstruct(masked, mask), atol=1e-4)


@torch.no_grad()
def test_hidden_pixels_do_not_reach_the_reconstruction(network: torch.nn.Module) -> None:
    noisy = torch.rand(1, 3, 64, 64)
    mask = patch_mask(1, (64, 64), 0.4, 4)
    other = torch.where(mask == 0, torch.rand_like(noisy), noisy)
    first, second = network.reconstruct(noisy, mask), network.reconstruct(other, mask)
    assert torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(network(noisy), network(other), atol=1e-3)


@torch.no_grad()
def test_a_checkpoint_gives_the_network_back(network: torch.nn.Module, tmp_path: Path) -> None:
    name = next(n for n, home in networks.NETWORKS.items() if type(network).__name__ in home)
    checkpoints.save(tmp_path / "n.safetensors", network, {"network": name, "supports": ["none"]})
    loaded = checkpoints.load(tmp_path / "n.safetensors")
    assert loaded.network.config == network.config
    noisy = torch.rand(1, 3, 64, 64)
    assert torch.allclose(loaded.network(noisy), network(noisy), atol=2e-2)


def test_the_published_unet_has_its_published_size() -> None:
    network = networks.build("mim-unet")
    assert sum(p.numel() for p in network.parameters()) == 7_799_974
    assert sum(p.numel() for p in network.main_head.parameters()) == 27_875


@torch.no_grad()
def test_the_published_unet_takes_odd_sizes() -> None:
    network = networks.build("mim-unet").eval()
    assert network(torch.rand(1, 3, 49, 71)).shape == (1, 3, 49, 71)


@torch.no_grad()
def test_the_residual_unet_scales_with_its_input() -> None:
    network = networks.build("mim-resunet").eval()
    noisy = torch.rand(1, 3, 32, 32)
    assert torch.allclose(network(3 * noisy), 3 * network(noisy), rtol=1e-3, atol=1e-4)


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(UsageError, match="mim-resunet"):
        networks.build("resnet-9000")
