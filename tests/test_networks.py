"""Every network of the registry keeps its contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from denoise_cli import checkpoints, networks
from denoise_cli.errors import UsageError
from denoise_cli.masking import patch_mask

JOINT = ["mim-resunet", "mim-unet"]  # with a head that reconstructs what a mask hides


@pytest.fixture(params=sorted(networks.NETWORKS))
def any_network(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.build(request.param).eval()


@pytest.fixture(params=JOINT)
def network(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return networks.build(request.param).eval()


def noise_for(network: torch.nn.Module, rows: int, columns: int) -> torch.Tensor:
    return torch.rand(1, network.config.get("inputs", network.config["channels"]), rows, columns)


@torch.no_grad()
def test_the_result_has_the_size_of_the_picture(any_network: torch.nn.Module) -> None:
    network = any_network
    multiple, minimum = network.multiple_of, network.minimum
    for side in {-(-minimum // multiple) * multiple, 2 * multiple + minimum // multiple * multiple}:
        noisy = noise_for(network, side, side + multiple)
        assert network(noisy).shape == (1, network.config["channels"], side, side + multiple)


@torch.no_grad()
def test_the_result_depends_on_the_input_alone(any_network: torch.nn.Module) -> None:
    noisy = noise_for(any_network, 64, 64)
    state = {key: value.clone() for key, value in any_network.state_dict().items()}
    before = noisy.clone()
    first = any_network(noisy)
    assert torch.equal(any_network(noisy), first)
    assert torch.equal(noisy, before)
    assert all(torch.equal(state[key], v) for key, v in any_network.state_dict().items())


@torch.no_grad()
def test_the_reconstruction_has_the_size_of_the_picture(network: torch.nn.Module) -> None:
    noisy, mask = torch.rand(1, 3, 64, 80), patch_mask(1, (64, 80), 0.4, 4)
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
def test_a_checkpoint_gives_the_network_back(any_network: torch.nn.Module, tmp_path: Path) -> None:
    network = any_network
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.fill_(123_456_789)  # more than fp16 holds
    name = next(n for n, home in networks.NETWORKS.items() if type(network).__name__ in home)
    for half, tolerance in ((True, 2e-2), (False, 0.0)):
        path = tmp_path / f"{half}.safetensors"
        checkpoints.save(path, network, {"network": name, "supports": ["none"]}, half=half)
        loaded = checkpoints.load(path).network
        assert loaded.config == network.config
        noisy = noise_for(network, 64, 64)
        assert torch.allclose(loaded(noisy), network(noisy), atol=tolerance)
        for key, value in loaded.state_dict().items():
            assert not key.endswith("num_batches_tracked") or value == 123_456_789


@pytest.mark.parametrize(
    ("name", "config", "count"),
    [
        ("blind-spot", {}, 1_118_832),
        ("dilated-unet", {}, 233_440),
        ("dncnn", {}, 668_225),
        ("dncnn", {"bias": False}, 667_008),
        ("hourglass", {"inputs": 6}, 747_395),
        ("hourglass", {"inputs": 4}, 746_115),
        ("masked-swin", {}, 824_118),
        ("mim-unet", {}, 7_799_974),
    ],
)
def test_published_networks_have_their_published_size(
    name: str, config: dict[str, object], count: int
) -> None:
    assert sum(p.numel() for p in networks.build(name, **config).parameters()) == count


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(64, 96), (33, 47), (50, 66)])
def test_the_hourglass_computes_its_layers_in_fewer_steps_to_the_same_result(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    network = networks.build("hourglass", width=8).double().eval()
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for numbers in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                numbers.data.uniform_(0.5, 2)
    masked = torch.rand(2, 6, *size, dtype=torch.double).contiguous(memory_format=layout)

    def as_written(x: torch.Tensor) -> torch.Tensor:
        skips = []
        for scale in network.scales:
            skips.append(scale.skip(x))
            x = scale.down(x)
        for scale in reversed(network.scales):
            skip = skips.pop()
            x = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
            x = scale.join(torch.cat([skip, x[..., : skip.shape[2], : skip.shape[3]]], dim=1))
        return network.last(x).sigmoid()

    results = []
    for form in (network, as_written):
        seen = masked.clone().requires_grad_()
        filled = form(seen)
        slopes = torch.autograd.grad(filled.square().sum(), [seen, *network.parameters()])
        results.append([filled, *slopes])
    for own, other in zip(*results, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 12), (9, 14), (17, 11)])
def test_the_blind_spot_sees_all_but_its_pixel(channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = networks.build("blind-spot", channels=channels, width=8).double()
    noisy = torch.rand(1, channels, *size, dtype=torch.double, requires_grad=True)
    denoised = network(noisy)
    assert denoised.shape == noisy.shape
    rows, columns = size
    for y, x in {(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2), (3, 4), (0, 5)}:
        (slope,) = torch.autograd.grad(denoised[0, :, y, x].sum(), noisy, retain_graph=True)
        seen = slope[0].abs().sum(0) > 0
        assert not seen[y, x]
        around = seen[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert int(around.sum()) == around.numel() - 1


@pytest.mark.parametrize("name", ["blind-spot", "dilated-unet", "dncnn"])
@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_bias_free_networks_scale_with_their_input(name: str, training: bool) -> None:
    config = {} if name == "blind-spot" else {"bias": False}
    network = networks.build(name, **config).train(training)
    noisy = torch.rand(1, 1, 32, 32)
    first = network(noisy)
    if name == "dncnn" and training:  # the normalization takes the scale out
        assert torch.allclose(noisy - first, 3 * noisy - network(3 * noisy), atol=1e-3)
    else:
        assert torch.allclose(network(3 * noisy), 3 * first, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_hidden_tokens_do_not_reach_the_attention() -> None:
    network = networks.build("masked-swin", depths=[2]).eval()
    for key, value in network.state_dict().items():
        if "qkv" in key or "project" in key:
            value.mul_(10)  # untrained attention does next to nothing
    noisy = torch.rand(1, 3, 16, 16)
    shown = [torch.ones(1, 1, 16, 16)] * network.layers
    assert torch.equal(network(noisy, shown), network(noisy))
    hidden = [torch.zeros(1, 1, 16, 16)] * network.layers
    assert not torch.allclose(network(noisy, hidden), network(noisy))
    # With all tokens hidden nothing is left that looks beyond the convolutions' reach.
    other = noisy.clone()
    other[..., :3, :3] += 1
    change = (network(other, hidden) - network(noisy, hidden)).abs().amax((0, 1))
    assert change[:4, :4].min() > 0
    assert change[10:, 10:].max() < 1e-6
    assert (network(other) - network(noisy)).abs().amax((0, 1))[10:, 10:].max() > 1e-4


def test_the_heads_of_the_published_unet_have_their_published_size() -> None:
    network = networks.build("mim-unet")
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
