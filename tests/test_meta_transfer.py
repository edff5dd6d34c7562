"""Meta-transfer: a network that learns to be adapted, and its adaptation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import photos  # noqa: F401
from test_validation import scene
from torch import Tensor, nn
from torch.func import functional_call

from denoise_cli import Denoiser, checkpoints, networks
from denoise_cli.errors import CheckpointError, UsageError
from denoise_cli.metrics import psnr
from denoise_cli.networks.multitask import MultiTask
from denoise_cli.objectives import auxiliary_step, weighted_l1
from denoise_cli.training import train
from denoise_cli.training.meta import MetaTransfer

GENERATOR = torch.Generator()
TINY: dict[str, Any] = {"widths": [6, 8], "blocks": 1}


def tiny(seed: int = 0) -> MultiTask:
    torch.manual_seed(seed)
    network = networks.build("multitask", **TINY).double()
    assert isinstance(network, MultiTask)
    return network


def pair(count: int = 2, size: int = 8) -> tuple[Tensor, Tensor]:
    clean = torch.rand(count, 3, size, size, dtype=torch.float64)
    return clean + 0.1 * torch.randn_like(clean), clean


def slope(
    loss: Callable[[], Tensor], weights: list[nn.Parameter], direction: Iterable[Tensor]
) -> float:
    """The derivative of `loss` along `direction`, by central differences.

    An inner step jumps where an absolute value or a ReLU changes sides, so they must be small.
    """
    step, values = 1e-8, []
    for sign in (1, -1):
        for weight, part in zip(weights, direction, strict=True):
            weight.data.add_(part, alpha=sign * step)
        values.append(float(loss().detach()))
        for weight, part in zip(weights, direction, strict=True):
            weight.data.add_(part, alpha=-sign * step)
    return (values[0] - values[1]) / (2 * step)


def check_gradient(
    loss: Callable[[], Tensor], weights: list[nn.Parameter], gradients: tuple[Tensor, ...]
) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        direction = [torch.randn_like(weight) for weight in weights]
        along = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
        assert along == pytest.approx(slope(loss, weights, direction), rel=1e-3, abs=1e-6)


def test_the_parts_have_their_published_size() -> None:
    network = networks.build("multitask")
    sizes = {
        name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()
    }
    assert sizes == {"restoration": 603_360, "mask_network": 56_449}
    heads = network.restoration.heads
    assert sum(p.numel() for p in heads.primary.parameters()) == 37_728
    assert sum(p.numel() for p in heads.auxiliary.parameters()) == 21_024


@torch.no_grad()
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (33, 18)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    network = networks.build("multitask").eval()
    noisy = torch.rand(1, 3, *size)
    clean, rebuilt = network.restoration(noisy)
    assert clean.shape == rebuilt.shape == noisy.shape
    assert torch.equal(network(noisy), clean)
    mask = network.mask_network(noisy)
    assert mask.shape == (1, 1, *size)
    assert 0 < mask.min() < mask.max() < 1


def test_the_gradient_of_stage_2_is_second_order() -> None:
    network = tiny()
    noisy, clean = pair()
    recipe = MetaTransfer(stage=2, steps=3, inner_lr=0.1)

    def loss() -> Tensor:
        return recipe.loss(network, noisy, clean, GENERATOR)[0]

    # Of all weights but those of the mask network too: it has a say through the inner steps alone.
    for part in (network.restoration.heads, network.restoration.body, network.mask_network):
        weights = list(part.parameters())
        gradients = torch.autograd.grad(loss(), weights)
        assert max(float(g.abs().max()) for g in gradients) > 0
        check_gradient(loss, weights, gradients)

    # The first-order gradient, that of the weights after the steps, is another one.
    heads = network.restoration.heads
    with torch.no_grad():
        features, mask = network.restoration.body(noisy), network.mask_network(noisy)
    first = [torch.zeros_like(p) for p in heads.parameters()]
    for one in (slice(0, 1), slice(1, 2)):
        stepped = {k: p.detach() for k, p in heads.named_parameters()}
        for _ in range(recipe.steps):
            inputs = (features[one], noisy[one])
            stepped, _ = auxiliary_step(heads, stepped, inputs, mask[one], recipe.inner_lr)
        leaves = {k: p.detach().requires_grad_() for k, p in stepped.items()}
        denoised, _ = functional_call(heads, leaves, (features[one], noisy[one]))
        error = (denoised - clean[one]).abs().mean() / 2
        parts = torch.autograd.grad(error, list(leaves.values()), allow_unused=True)
        first = [f if p is None else f + p for f, p in zip(first, parts, strict=True)]
    second = torch.autograd.grad(loss(), list(heads.parameters()))
    difference = sum(float((a - b).square().sum()) for a, b in zip(first, second, strict=True))
    assert difference > 1e-3 * sum(float(b.square().sum()) for b in second)


def test_the_inner_steps_add_up() -> None:
    network = tiny()
    noisy, _ = pair(1)
    heads = network.restoration.heads
    features, mask = network.restoration.body(noisy), network.mask_network(noisy)
    parameters: dict[str, Tensor] = dict(heads.named_parameters())
    losses = []
    for _ in range(5):
        parameters, loss = auxiliary_step(heads, parameters, (features, noisy), mask, 0.05)
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[4] > 2.5 * (losses[0] - losses[1])


def test_each_update_of_stage_1_moves_its_own_weights() -> None:
    network = tiny()
    noisy, clean = pair(4)
    recipe = MetaTransfer(stage=1, inner_lr=0.5, share=0.5)
    loss, parts = recipe.loss(network, noisy, clean, GENERATOR)
    restoration, masks = (
        list(network.restoration.parameters()),
        list(network.mask_network.parameters()),
    )
    whole = torch.autograd.grad(loss, [*restoration, *masks], retain_graph=True)
    normal = torch.autograd.grad(parts["main"], restoration, retain_graph=True)
    assert all(torch.allclose(a, b) for a, b in zip(whole, normal, strict=False))

    def after_one_step() -> Tensor:
        return recipe.loss(network, noisy, clean, GENERATOR)[1]["mask"]

    check_gradient(after_one_step, masks, whole[len(restoration) :])


def test_the_picture_s_edges_draw_the_mask() -> None:
    network = tiny()
    noisy, clean = pair(2)

    def mask_loss(edges: float) -> float:
        recipe = MetaTransfer(edges=edges, share=1)
        return float(recipe.loss(network, noisy, clean, GENERATOR)[1]["mask"].detach())

    assert mask_loss(0.1) > mask_loss(0.0)


def test_stage_1_serves_stage_2_and_the_method(photos: Path, tmp_path: Path) -> None:  # noqa: F811
    small: dict[str, Any] = {"data": photos, "noise": "camera", "patch": 32, "batch": 4,
                             "device": "cpu", "precision": "fp32"}  # fmt: skip
    first = train("meta", out=tmp_path / "1.safetensors", steps=40, config=TINY, **small)
    network = checkpoints.load(first).network
    recipe = MetaTransfer(stage=2, patch=32, batch=4)
    clean = scene(32)
    loss, _ = recipe.loss(network, clean + 0.05 * torch.randn_like(clean), clean, GENERATOR)
    assert torch.isfinite(loss)
    denoised = Denoiser("meta-transfer", weights=str(first))(clean[0].numpy(), "CYX")
    assert np.isfinite(denoised).all()


def test_other_networks_cannot_be_trained_or_adapted_so() -> None:
    noisy, clean = pair()
    network = networks.build("dilated-unet", channels=3).double()
    with pytest.raises(UsageError, match="multitask"):
        MetaTransfer().loss(network, noisy, clean, GENERATOR)
    with pytest.raises(UsageError, match="stage"):
        MetaTransfer(stage=3)
    with pytest.raises(CheckpointError, match="do not support"):
        Denoiser("meta-transfer", weights="ttt-mim")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    header = {"network": "multitask", "supports": ["none", "meta-transfer"]}
    checkpoints.save(path, networks.build("multitask"), header)
    return str(path)


def adapted(weights: str, noisy: np.ndarray, **options: Any) -> np.ndarray:
    kind = {"device": "cpu", "precision": "fp32"}
    return Denoiser("meta-transfer", weights=weights, options=options, **kind)(noisy)  # type: ignore[arg-type]


def noisy_scene(size: int = 64, sigma: float = 0.1) -> np.ndarray:
    clean = np.moveaxis(scene(size)[0].numpy(), 0, -1)
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    return np.asarray(clean + noise, np.float32)


@pytest.mark.parametrize("part", ["heads", "all"])
def test_it_is_algorithm_3(weights: str, part: str) -> None:
    """The result, calculated anew: an ordinary optimizer on weights of the whole network."""
    noisy = noisy_scene(48)
    network = checkpoints.load(weights).network
    assert isinstance(network, MultiTask)
    seen = torch.from_numpy(np.moveaxis(noisy, -1, 0)[None].copy())
    mask = network.mask_network(seen).detach()
    learns = network.restoration.heads if part == "heads" else network.restoration
    optimizer = torch.optim.SGD(learns.parameters(), lr=0.02)
    for _ in range(4):
        optimizer.zero_grad()
        weighted_l1(network.restoration(seen)[1], seen, mask).backward()
        optimizer.step()
    expected = network(seen).detach()[0].permute(1, 2, 0).numpy()
    result = adapted(weights, noisy, steps=4, lr=0.02, part=part, validate=False)
    assert np.abs(result - expected).max() < 1e-4
    assert np.abs(result - adapted(weights, noisy, steps=0)).max() > 1e-3


def test_steps_that_harm_are_taken_back() -> None:
    noisy = noisy_scene(96)
    unadapted = adapted("meta-transfer", noisy, steps=0)
    wild = Denoiser("meta-transfer", options={"lr": 0.5}, device="cpu", precision="fp32").run(noisy)
    assert (wild.steps, wild.kept_step) == (5, 0)
    assert np.abs(wild.samples - unadapted).max() < 1e-6
    forced = adapted("meta-transfer", noisy, lr=0.5, validate=False)
    clean = np.moveaxis(scene(96)[0].numpy(), 0, -1)
    assert not psnr(clean, forced) > psnr(clean, unadapted)  # nor is what is not finite


def test_too_small_to_tell_is_said(weights: str) -> None:
    noisy = noisy_scene(48)
    result = Denoiser("meta-transfer", weights=weights).run(noisy)
    assert result.steps == 0
    assert "too small" in str(result.warning)


def test_the_body_runs_once(weights: str) -> None:
    """Small pictures are predicted from the features of the adaptation, large ones in tiles."""
    noisy = np.random.default_rng(0).random((96, 96, 3), np.float32)

    def runs(**options: Any) -> int:
        denoiser = Denoiser("meta-transfer", weights=weights, options=options, device="cpu")
        calls: list[int] = []
        denoiser._network.restoration.body.register_forward_hook(lambda *_: calls.append(1))
        denoiser(noisy)
        return len(calls)

    assert runs(validate=False) == 1
    assert runs() == 3  # the picture with a probe, before and after
    assert runs(validate=False, crop=64) == 2


def test_five_steps_cost_little_more_than_the_network(weights: str) -> None:
    """Heads have a tenth of the weights, but work at full resolution, forward and backward."""
    noisy = np.random.default_rng(0).random((128, 128, 3), np.float32)

    def seconds(steps: int) -> float:
        denoiser = Denoiser("meta-transfer", weights=weights, steps=steps, device="cpu")
        times = []
        for _ in range(3):
            started = time.process_time()
            denoiser(noisy)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(5) < 15 * seconds(0)
