"""Importing what the papers' authors publish.

The files are built here as the authors' training scripts write them, with random weights; what
the imported networks compute is compared with the authors' architecture written out anew, on the
very tensors of the files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from denoise_cli import checkpoints, published, store
from denoise_cli.cli import main
from denoise_cli.errors import CheckpointError
from denoise_cli.networks.swin import relative_positions

State = dict[str, Tensor]


class Tensors:
    """Collects random tensors under the authors' names."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.state: State = OrderedDict()

    def conv(self, name: str, i: int, o: int, size: int, *, bias: bool = True) -> None:
        self.state[f"{name}.weight"] = torch.randn(o, i, size, size) / (i * size * size) ** 0.5
        if bias:
            self.state[f"{name}.bias"] = torch.randn(o) * 0.1

    def linear(self, name: str, i: int, o: int) -> None:
        self.state[f"{name}.weight"] = torch.randn(o, i) / i**0.5
        self.state[f"{name}.bias"] = torch.randn(o) * 0.1

    def norm(self, name: str, width: int) -> None:
        self.state[f"{name}.weight"] = 1 + torch.randn(width) * 0.1
        self.state[f"{name}.bias"] = torch.randn(width) * 0.1

    def batch_norm(self, name: str, width: int) -> None:
        self.norm(name, width)
        self.state[f"{name}.running_mean"] = torch.randn(width) * 0.1
        self.state[f"{name}.running_var"] = 0.5 + torch.rand(width)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(123_456_789)


def conv(t: State, name: str, x: Tensor, **settings: Any) -> Tensor:
    return F.conv2d(x, t[f"{name}.weight"], t.get(f"{name}.bias"), **settings)


def batch_norm(t: State, name: str, x: Tensor, *, training: bool = False) -> Tensor:
    statistics = [t[f"{name}.running_mean"].clone(), t[f"{name}.running_var"].clone()]
    return F.batch_norm(x, *statistics, t[f"{name}.weight"], t[f"{name}.bias"], training=training)


# TTT-MIM


def ttt_mim_state() -> State:
    t = Tensors()

    def block(name: str, i: int, o: int) -> None:
        t.conv(f"{name}.layers.0", i, o, 3, bias=False)
        t.norm(f"{name}.layers.1", o)
        t.conv(f"{name}.layers.4", o, o, 3, bias=False)
        t.norm(f"{name}.layers.5", o)

    t.state["mask_token"] = torch.randn(1, 32, 1, 1)
    for level, (i, o) in enumerate([(32, 32), (32, 64), (64, 128), (128, 256)]):
        block(f"down_sample_layers.{level}", i, o)
    block("conv", 256, 512)
    for index, width in enumerate([256, 128, 64]):
        block(f"up_conv.{index}", 2 * width, width)
    for index, width in enumerate([256, 128, 64, 32]):
        weight = torch.randn(2 * width, width, 2, 2) / (2 * width) ** 0.5
        t.state[f"up_transpose_conv.{index}.layers.0.weight"] = weight
        t.norm(f"up_transpose_conv.{index}.layers.1", width)
    t.conv("proj", 3, 32, 1)
    for head in ("main_block", "pred_block"):
        block(f"{head}.0", 64, 32)
        t.conv(f"{head}.1", 32, 3, 1)
    return t.state


def ttt_mim_features(t: State, x: Tensor) -> Tensor:
    skips = []
    for level in range(4):
        x = ttt_mim_block(t, f"down_sample_layers.{level}", x)
        skips.append(x)
        x = F.avg_pool2d(x, 2)
    x = ttt_mim_block(t, "conv", x)
    for index in range(4):
        up = f"up_transpose_conv.{index}.layers"
        x = F.conv_transpose2d(x, t[f"{up}.0.weight"], stride=2)
        x = torch.cat([ttt_mim_norm(t, f"{up}.1", x), skips.pop()], 1)
        if index < 3:
            x = ttt_mim_block(t, f"up_conv.{index}", x)
    return x


def ttt_mim_block(t: State, name: str, x: Tensor) -> Tensor:
    for number in (0, 4):
        x = F.conv2d(x, t[f"{name}.layers.{number}.weight"], padding=1)
        x = ttt_mim_norm(t, f"{name}.layers.{number + 1}", x)
    return x


def ttt_mim_norm(t: State, name: str, x: Tensor) -> Tensor:
    groups = x.shape[1] // 16
    return F.leaky_relu(F.group_norm(x, groups, t[f"{name}.weight"], t[f"{name}.bias"]), 0.2)


def ttt_mim_head(t: State, name: str, features: Tensor) -> Tensor:
    return conv(t, f"{name}.1", ttt_mim_block(t, f"{name}.0", features))


# MPI


def hourglass_state(inputs: int) -> State:
    t = Tensors()
    prefix, wide = "net.", inputs
    for _ in range(5):
        t.conv(f"{prefix}1.0.1.1", wide, 64, 1)
        t.batch_norm(f"{prefix}1.0.2", 64)
        t.conv(f"{prefix}1.1.1.1", wide, 64, 3)
        t.batch_norm(f"{prefix}1.1.2", 64)
        t.conv(f"{prefix}1.1.4.1", 64, 64, 3)
        t.batch_norm(f"{prefix}1.1.5", 64)
        t.batch_norm(f"{prefix}2", 128)
        t.conv(f"{prefix}3.1", 128, 64, 3)
        t.batch_norm(f"{prefix}4", 64)
        t.conv(f"{prefix}6.1", 64, 64, 1)
        t.batch_norm(f"{prefix}7", 64)
        prefix, wide = f"{prefix}1.1.7.", 64
    t.conv("net.9.1", 64, 3, 1)
    return t.state


def hourglass(t: State, x: Tensor, *, training: bool, prefix: str = "net.") -> Tensor:
    """One scale, which calls itself for the deeper ones."""

    def block(x: Tensor, name: str, norm: str, padding: int = 0, stride: int = 1) -> Tensor:
        x = F.pad(x, [padding] * 4, mode="reflect") if padding else x
        x = conv(t, prefix + name, x, stride=stride)
        return F.leaky_relu(batch_norm(t, prefix + norm, x, training=training), 0.2)

    skip = block(x, "1.0.1.1", "1.0.2")
    deep = block(block(x, "1.1.1.1", "1.1.2", 1, 2), "1.1.4.1", "1.1.5", 1)
    if f"{prefix}1.1.7.1.0.1.1.weight" in t:
        deep = hourglass(t, deep, training=training, prefix=f"{prefix}1.1.7.")
    deep = deep.repeat_interleave(2, 2).repeat_interleave(2, 3)
    joined = torch.cat([skip, deep[:, :, : skip.shape[2], : skip.shape[3]]], 1)
    joined = batch_norm(t, f"{prefix}2", joined, training=training)
    joined = block(block(joined, "3.1", "4", 1), "6.1", "7")
    return torch.sigmoid(conv(t, "net.9.1", joined)) if prefix == "net." else joined


# Bias-free denoising


def dncnn_state(*, bias: bool) -> State:
    t = Tensors()
    t.conv("first_layer", 1, 64, 3, bias=bias)
    for index in range(18):
        t.conv(f"hidden_layer_list.{index}", 64, 64, 3, bias=bias)
    for index in range(18):
        t.batch_norm(f"bn_layer_list.{index}", 64)
    t.conv("last_layer", 64, 1, 3, bias=bias)
    return t.state


def dncnn(t: State, noisy: Tensor) -> Tensor:
    x = F.relu(conv(t, "first_layer", noisy, padding=1))
    for index in range(18):
        x = conv(t, f"hidden_layer_list.{index}", x, padding=1)
        norm = f"bn_layer_list.{index}"
        if "first_layer.bias" in t:
            x = batch_norm(t, norm, x)
        else:
            deviation = t[f"{norm}.running_var"].sqrt() + 1e-5
            x = x / deviation.view(1, -1, 1, 1) * t[f"{norm}.weight"].view(1, -1, 1, 1)
        x = F.relu(x)
    return noisy - conv(t, "last_layer", x, padding=1)


def unet_state(*, bias: bool) -> State:
    t = Tensors()
    sizes = [(1, 32, 5), (32, 32, 3), (32, 64, 3), (64, 64, 3), (64, 64, 3), (64, 64, 3)]
    sizes += [(64, 64, 4), (96, 32, 3), (32, 1, 5)]
    for number, (i, o, size) in enumerate(sizes, 1):
        t.conv(f"conv{number}", i, o, size, bias=bias and number < 9)
    return t.state


def unet(t: State, noisy: Tensor) -> Tensor:
    x = F.relu(conv(t, "conv1", noisy, padding=2))
    skip = x = F.relu(conv(t, "conv2", x, padding=1))
    x = F.relu(conv(t, "conv3", x, padding=1, stride=2))
    for number, dilation in ((4, 1), (5, 2), (6, 4)):
        x = F.relu(conv(t, f"conv{number}", x, padding=dilation, dilation=dilation))
    x = F.conv_transpose2d(x, t["conv7.weight"], t.get("conv7.bias"), stride=2, padding=1)
    x = F.relu(conv(t, "conv8", torch.cat([F.relu(x), skip], 1), padding=1))
    return conv(t, "conv9", x, padding=2)


# Masked image training


def swin_state() -> State:
    t = Tensors()
    t.conv("conv_first", 3, 60, 1)
    t.norm("patch_embed.norm", 60)
    for layer in range(4):
        for index in range(6):
            block = f"layers.{layer}.residual_group.blocks.{index}"
            if index % 2:
                t.state[f"{block}.attn_mask"] = torch.zeros(64, 64, 64)
            t.norm(f"{block}.norm1", 60)
            t.state[f"{block}.attn.relative_position_bias_table"] = torch.randn(225, 6)
            t.state[f"{block}.attn.relative_position_index"] = relative_positions(8)
            t.linear(f"{block}.attn.qkv", 60, 180)
            t.linear(f"{block}.attn.proj", 60, 60)
            t.norm(f"{block}.norm2", 60)
            t.linear(f"{block}.mlp.fc1", 60, 120)
            t.linear(f"{block}.mlp.fc2", 120, 60)
        swin_bottleneck_state(t, f"layers.{layer}.conv")
    t.norm("norm", 60)
    swin_bottleneck_state(t, "conv_after_body")
    t.conv("conv_last", 60, 3, 3)
    return t.state


def swin_bottleneck_state(t: Tensors, name: str) -> None:
    t.conv(f"{name}.0", 60, 15, 3)
    t.conv(f"{name}.2", 15, 15, 1)
    t.conv(f"{name}.4", 15, 60, 3)


def swin(t: State, noisy: Tensor) -> Tensor:
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
    x = layer_norm(t, "patch_embed.norm", conv(t, "conv_first", noisy - mean))
    for layer in range(4):
        y = x
        for index in range(6):
            block = f"layers.{layer}.residual_group.blocks.{index}"
            shift = 4 if index % 2 else 0
            y = y + swin_attention(t, f"{block}.attn", layer_norm(t, f"{block}.norm1", y), shift)
            hidden = pointwise(t, f"{block}.mlp.fc1", layer_norm(t, f"{block}.norm2", y))
            y = y + pointwise(t, f"{block}.mlp.fc2", F.gelu(hidden))
        x = x + swin_bottleneck(t, f"layers.{layer}.conv", y)
    return conv(t, "conv_last", swin_bottleneck(t, "conv_after_body", layer_norm(t, "norm", x)),
                padding=1) + mean  # fmt: skip


def swin_bottleneck(t: State, name: str, x: Tensor) -> Tensor:
    x = F.leaky_relu(conv(t, f"{name}.0", x, padding=1), 0.2)
    return conv(t, f"{name}.4", F.leaky_relu(conv(t, f"{name}.2", x), 0.2), padding=1)


def layer_norm(t: State, name: str, x: Tensor) -> Tensor:
    centered = x - x.mean(1, keepdim=True)
    scaled = centered / (centered.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return scaled * t[f"{name}.weight"].view(1, -1, 1, 1) + t[f"{name}.bias"].view(1, -1, 1, 1)


def pointwise(t: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, t[f"{name}.weight"][:, :, None, None], t[f"{name}.bias"])


def swin_attention(t: State, name: str, x: Tensor, shift: int) -> Tensor:
    """Window by window and head by head, the tokens' neighbors found by their coordinates."""
    rows, columns = x.shape[2:]
    qkv = pointwise(t, f"{name}.qkv", x)[0]
    table = t[f"{name}.relative_position_bias_table"]
    result = torch.zeros(60, rows, columns)
    for top in range(shift, rows + shift, 8):
        for left in range(shift, columns + shift, 8):
            places = [(top + i, left + j) for i in range(8) for j in range(8)]
            tokens = torch.stack([qkv[:, y % rows, x_ % columns] for y, x_ in places])
            # Beyond the edge a window goes on at the opposite one, which it must not mix with.
            wrapped = torch.tensor([2 * (y >= rows) + (x_ >= columns) for y, x_ in places])
            apart = -100.0 * (wrapped[:, None] != wrapped[None, :])
            pairs = [[(a[0] - b[0] + 7) * 15 + a[1] - b[1] + 7 for b in places] for a in places]
            bias = table[torch.tensor(pairs)]
            for head in range(6):
                q, k, v = (tokens[:, n * 60 + head * 10 :][:, :10] for n in range(3))
                attention = (q @ k.T / 10**0.5 + bias[..., head] + apart).softmax(-1)
                for (y, x_), value in zip(places, attention @ v, strict=True):
                    result[head * 10 : head * 10 + 10, y % rows, x_ % columns] = value
    return pointwise(t, f"{name}.proj", result[None])


# The files


def parallel(state: State) -> State:
    return OrderedDict((f"module.{key}", value) for key, value in state.items())


def as_ttt_mim(state: State) -> object:
    return {
        "epoch": 100,
        "arch": "unet",
        "state_dict": parallel(state),
        "best_psnr": np.float32(31.5),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
    }


def as_bias_free(state: State, **arguments: object) -> object:
    known = {"model": "dncnn", "min_noise": 0, "max_noise": 55.0, "noise_mode": "B"}
    namespace = argparse.Namespace(**known, **arguments)
    return {
        "step": 7,
        "score": 30.5,
        "best_score": None,
        "model": [state],
        "optimizer": [{"state": {}, "param_groups": []}],
        "args": namespace,
    }


def write(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def imported(path: Path, target: Path) -> checkpoints.Checkpoint:
    network, header = published.convert(path)
    checkpoints.save(target, network, header, half=False)
    return checkpoints.load(target)


def count(state: State) -> int:
    constants = ("running_mean", "running_var", "num_batches_tracked", "attn_mask", "index")
    return sum(value.numel() for key, value in state.items() if not key.endswith(constants))


def close(a: Tensor, b: Tensor) -> bool:
    return bool(torch.allclose(a, b, rtol=1e-3, atol=1e-4)) and float(b.std()) > 1e-3


@torch.no_grad()
def test_ttt_mim(tmp_path: Path) -> None:
    t = ttt_mim_state()
    assert count(t) == 7_799_974
    file = write(tmp_path / "0715.pth.tar", as_ttt_mim(t))
    checkpoint = imported(file, tmp_path / "a.safetensors")
    assert checkpoint.supports == ("none", "ttt-mim")
    assert tuple(checkpoint.standardization.mean) == (0.485, 0.456, 0.406)
    noisy, mask = torch.rand(1, 3, 32, 48), (torch.rand(1, 1, 32, 48) > 0.4).float()
    embedded = conv(t, "proj", noisy)
    residual = ttt_mim_head(t, "main_block", ttt_mim_features(t, embedded))
    assert close(checkpoint.network(noisy), noisy - residual)
    embedded = embedded * mask + t["mask_token"] * (1 - mask)
    expected = ttt_mim_head(t, "pred_block", ttt_mim_features(t, embedded))
    assert close(checkpoint.network.reconstruct(noisy, mask), expected)


@pytest.mark.parametrize(("inputs", "parameters"), [(6, 747_395), (4, 746_115)])
@torch.no_grad()
def test_mpi(tmp_path: Path, inputs: int, parameters: int) -> None:
    t = hourglass_state(inputs)
    assert count(t) == parameters
    file = write(tmp_path / "imgnet.pth", {"params": t})
    checkpoint = imported(file, tmp_path / "a.safetensors")
    assert checkpoint.supports == ("mpi",)
    masked = torch.rand(1, inputs, 45, 70)
    assert close(checkpoint.network(masked), hourglass(t, masked, training=False))
    assert close(checkpoint.network.train()(masked), hourglass(t, masked, training=True))


@pytest.mark.parametrize(("bias", "parameters"), [(True, 668_225), (False, 667_008)])
@torch.no_grad()
def test_dncnn(tmp_path: Path, bias: bool, parameters: int) -> None:
    t = dncnn_state(bias=bias)
    assert count(t) == parameters
    file = write(tmp_path / "0-55.pt", as_bias_free(t, bias=bias), legacy=True)
    checkpoint = imported(file, tmp_path / "a.safetensors")
    assert checkpoint.metadata["noise"] == "gaussian:0-55"
    noisy = torch.rand(1, 1, 21, 34)
    assert close(checkpoint.network(noisy), dncnn(t, noisy))
    scales = close(checkpoint.network(3 * noisy), 3 * checkpoint.network(noisy))
    assert scales is not bias


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_unet(tmp_path: Path, bias: bool) -> None:
    t = unet_state(bias=bias)
    assert count(t) == 233_440 - (0 if bias else 416)
    checkpoint = imported(
        write(tmp_path / "0-55.pt", as_bias_free(t), legacy=True), tmp_path / "a.safetensors"
    )
    noisy = torch.rand(1, 1, 22, 34)
    assert close(checkpoint.network(noisy), unet(t, noisy))
    odd = torch.rand(1, 1, 21, 33)
    expected = unet(t, F.pad(odd, (0, 1, 0, 1)))[..., :21, :33]
    assert close(checkpoint.network(odd), expected)


@torch.no_grad()
def test_a_residual_unet_is_told_by_its_training(tmp_path: Path) -> None:
    t = unet_state(bias=False)
    file = write(tmp_path / "r.pt", as_bias_free(t, residual=True))
    noisy = torch.rand(1, 1, 16, 16)
    assert close(published.convert(file)[0](noisy), noisy - unet(t, noisy))


@pytest.mark.parametrize("wrapped", [True, False])
@torch.no_grad()
def test_swin(tmp_path: Path, wrapped: bool) -> None:
    t = swin_state()
    assert count(t) == 824_118
    file = write(tmp_path / "input_mask_80_90.pth", {"params": t} if wrapped else t)
    checkpoint = imported(file, tmp_path / "a.safetensors")
    noisy = torch.rand(1, 3, 16, 24)
    scale = checkpoint.standardization
    assert close(scale.inverse(checkpoint.network(scale.forward(noisy))), swin(t, noisy))


# What is not taken


def test_the_source_is_recorded(tmp_path: Path) -> None:
    file = write(tmp_path / "unet 0-55.pt", as_bias_free(unet_state(bias=True)))
    metadata = imported(file, tmp_path / "a.safetensors").metadata
    assert metadata["source_file"] == "unet 0-55.pt"
    assert metadata["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "bias_free_denoising" in metadata["source"]


STATES: dict[str, Callable[[], State]] = {
    "ttt-mim": ttt_mim_state,
    "mpi": lambda: hourglass_state(6),
    "dncnn": lambda: dncnn_state(bias=False),
    "unet": lambda: unet_state(bias=True),
    "swin": swin_state,
}


@pytest.mark.parametrize("name", STATES)
def test_every_tensor_must_be_there_and_fit(tmp_path: Path, name: str) -> None:
    whole = STATES[name]()
    bias = next(key for key in reversed(whole) if key.endswith(".bias"))
    lacking = {key: value for key, value in whole.items() if key != bias}
    with pytest.raises(CheckpointError, match="lacks"):
        published.convert(write(tmp_path / "lacking", lacking))
    with pytest.raises(CheckpointError, match=r"has extra\.weight, which is not known"):
        published.convert(write(tmp_path / "more", {**whole, "extra.weight": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match="has the shape"):
        published.convert(write(tmp_path / "other", {**whole, bias: torch.zeros(5)}))


def test_an_unknown_network_names_the_known(tmp_path: Path) -> None:
    file = write(tmp_path / "resnet.pth", {"params": {"fc.weight": torch.zeros(3, 3)}})
    with pytest.raises(CheckpointError, match="MPI hourglass"):
        published.convert(file)


def test_another_window_order_is_refused(tmp_path: Path) -> None:
    state = swin_state()
    key = "layers.1.residual_group.blocks.2.attn.relative_position_index"
    state[key] = state[key].T.contiguous()
    with pytest.raises(CheckpointError, match="relative_position_index is unusual"):
        published.convert(write(tmp_path / "a.pth", state))


@pytest.mark.parametrize(
    "content",
    [[1, 2], {}, {"params": {}}, {"state_dict": 3}, {"params": {"a": 1}}, torch.zeros(3)],
    ids=str,
)
def test_what_holds_no_network_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pth: holds no network"):
        published.convert(write(tmp_path / "a.pth", content))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half an archive"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth: no readable PyTorch checkpoint"):
        published.convert(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        published.convert(tmp_path / "b.pth")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    for legacy in (True, False):
        file = write(tmp_path / "a.pth", unet_state(bias=True), legacy=legacy)
        file.write_bytes(file.read_bytes()[:-5000])
        with pytest.raises(CheckpointError, match=r"a\.pth"):
            published.convert(file)


class Trap:
    """Runs a shell command when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.sprung}'",)


class HiddenTrap(Trap):
    """The same through a method of a harmless class."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


def in_weights(trap: Trap) -> object:
    return {"params": {**unet_state(bias=True), "conv1.weight": trap}}


def in_arguments(trap: Trap) -> object:
    return as_bias_free(unet_state(bias=True), model_class=trap)


def in_score(trap: Trap) -> object:
    return {**unet_state(bias=True), "best_psnr": trap}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("kind", [Trap, HiddenTrap])
@pytest.mark.parametrize("place", [in_weights, in_arguments, in_score])
def test_code_is_refused_and_not_run(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: Callable[[Trap], object],
    kind: type[Trap],
    legacy: bool,
) -> None:
    sprung = tmp_path / "sprung"
    file = write(tmp_path / "evil.pt", place(kind(sprung)), legacy=legacy)
    with pytest.raises(SystemExit) as exit_:
        main(["weights", "import", str(file), "-o", str(tmp_path / "a.safetensors")])
    errors = capsys.readouterr().err.splitlines()
    assert (exit_.value.code, len(errors)) == (1, 1)
    assert errors[0].startswith(f"denoise: {file}: refused, as it holds code or objects (")
    assert list(tmp_path.iterdir()) == [file]
    # The trap is a real one:
    torch.load(file, weights_only=False)
    assert sprung.exists()


def test_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError):
        published.convert(file)
    assert not (tmp_path / "sprung").exists()


def test_a_script_is_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripts are deprecated, but such files exist
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))
    with pytest.raises(CheckpointError):
        published.convert(file)


def test_scores_of_older_numpy_are_let_in(tmp_path: Path) -> None:
    file = write(tmp_path / "a.pth.tar", as_ttt_mim(ttt_mim_state()), legacy=True)
    content = file.read_bytes()
    assert b"numpy._core.multiarray" in content
    file.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert published.convert(file)[1]["network"] == "mim-unet"


# The command


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DENOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


def test_an_imported_checkpoint_has_a_name_and_denoises(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t = unet_state(bias=True)
    write(tmp_path / "0-55.pt", as_bias_free(t))
    assert run("weights", "import", "0-55.pt", "-o", "gray") == 0
    assert "use it with -w gray" in capsys.readouterr().err
    assert run("weights", "list", "--json") == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["name"], record["imported"], record["noise"]) == ("gray", True, "gaussian:0-55")
    assert run("weights", "verify", "gray") == 0
    assert capsys.readouterr().out.startswith("gray: readable")

    noisy = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    Image.fromarray(noisy).save("photo.png")
    assert run("photo.png", "-w", "gray", "-m", "none", "--precision", "fp32") == 0
    planes = torch.from_numpy(noisy).permute(2, 0, 1)[:, None] / 255
    with torch.no_grad():
        expected = unet(t, planes)[:, 0].permute(1, 2, 0).clamp(0, 1) * 255
    denoised = np.asarray(Image.open("photo_denoised.png")).astype(float)
    assert np.abs(denoised - expected.numpy()).max() <= 0.51

    assert run("photo.png", "-w", "gray", "-m", "ttt-mim", "--overwrite") == 1
    assert "do not support the method 'ttt-mim'" in capsys.readouterr().err
    assert run("weights", "remove", "gray") == 0
    assert run("weights", "info", "gray") == 2


def test_importing_replaces_only_when_told(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.pt", unet_state(bias=True))
    assert run("weights", "import", "a.pt", "-o", "mine.safetensors") == 0
    assert (tmp_path / "mine.safetensors").is_file()
    assert not cache.exists()
    assert run("weights", "import", "a.pt", "-o", "mine.safetensors") == 2
    assert run("weights", "import", "a.pt", "-o", "mine.safetensors", "--overwrite") == 0
    assert run("weights", "import", "a.pt", "-o", "no/mine.safetensors") == 1
    assert run("weights", "import", "a.pt", "-o", "./mine.pth") == 2
    assert run("weights", "import", "a.pt", "-o", "a name") == 2
    assert run("weights", "import", "a.pt", "-o", "ttt-mim") == 2
    assert run("weights", "import", "none.pt", "-o", "mine") == 1
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(("denoise: ", "a.pt -> ")) for line in lines)
    assert store.names() == list(store._manifest())


def test_a_damaged_import_does_not_spoil_the_list(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cache / "imported").mkdir(parents=True)
    (cache / "imported" / "broken.safetensors").write_bytes(b"nothing")
    assert run("weights", "list") == 0
    assert "no readable safetensors file" in capsys.readouterr().out
    assert run("weights", "verify", "broken") == 1
