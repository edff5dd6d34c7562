"""Training: it learns, it can be interrupted, and what it writes can be used."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_validation import scene

from denoise_cli import Denoiser, checkpoints, noise
from denoise_cli.errors import CheckpointError, UnreadableImage, UsageError
from denoise_cli.training import Progress, train
from denoise_cli.training.data import Patches
from denoise_cli.training.optimizer import Muon, orthogonalize
from denoise_cli.training.recipes import load_recipe
from denoise_cli.training.source import add_noise

SMALL: dict[str, Any] = {
    "noise": "gaussian:25",
    "config": {"widths": [8, 16]},
    "patch": 32,
    "batch": 4,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    picture = (np.moveaxis(scene(128)[0].numpy(), 0, -1).clip(0, 1) * 255).astype(np.uint8)
    for index in range(6):
        Image.fromarray(np.roll(picture, 20 * index, axis=index % 2)).save(folder / f"{index}.png")
    return folder


def test_it_learns_and_the_checkpoint_denoises(photos: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    out = train("ttt-mim", data=photos, out=tmp_path / "n.safetensors", steps=120,
                progress=seen.append, **SMALL)  # fmt: skip
    assert seen[-1].step == 120
    assert seen[-1].loss < 0.85 * seen[0].loss
    assert seen[-1].val_psnr is not None
    assert seen[-1].val_psnr > 21.5
    assert {p.name for p in tmp_path.iterdir()} == {"n.safetensors", "n.csv", "n.preview.png"}
    with (tmp_path / "n.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["val_psnr"]) == pytest.approx(seen[-1].val_psnr)

    checkpoint = checkpoints.load(out)
    assert checkpoint.metadata["noise"] == "gaussian:25"
    assert checkpoint.metadata["steps"] == 120
    grain = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noisy = (scene(64) + grain * 25 / 255)[0].permute(1, 2, 0).numpy()
    result = Denoiser("ttt-mim", weights=str(out), steps=1)(noisy)
    clean = scene(64)[0].permute(1, 2, 0).numpy()
    assert ((result - clean) ** 2).mean() < 0.7 * ((noisy - clean) ** 2).mean()


def test_interrupted_and_resumed_equals_uninterrupted(photos: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    whole = train(data=photos, out=tmp_path / "whole.safetensors", steps=40, **SMALL)
    parts = tmp_path / "parts.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(data=photos, out=parts, steps=40, progress=interrupt, **SMALL)
    assert not parts.exists()
    train(data=photos, out=parts, steps=40, resume=True, **SMALL)
    first, second = (checkpoints.load(p).network.state_dict() for p in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_goes_on_from_a_checkpoint(photos: Path, tmp_path: Path) -> None:
    start = train(data=photos, out=tmp_path / "a.safetensors", steps=100, **SMALL)
    fresh: list[Progress] = []
    tuned: list[Progress] = []
    arguments = {**SMALL, "noise": "gaussian:30"}
    train(data=photos, out=tmp_path / "b.safetensors", steps=20, progress=fresh.append, **arguments)
    train(data=photos, out=tmp_path / "c.safetensors", steps=20, progress=tuned.append,
          init=str(start), **arguments)  # fmt: skip
    assert tuned[0].loss < 0.8 * fresh[0].loss


def test_a_network_that_learned_to_denoise_gets_its_auxiliary_head(
    photos: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    start = train("supervised", network="mim-resunet", data=photos, steps=60,
                  out=tmp_path / "a.safetensors", **SMALL)  # fmt: skip
    assert checkpoints.load(start).metadata["supports"] == ["none", "gaintuning"]
    out = train("ttt-mim", options={"only": "auxiliary"}, init=str(start), data=photos, steps=150,
                out=tmp_path / "b.safetensors", progress=seen.append, **SMALL)  # fmt: skip
    assert seen[-1].loss < 0.9 * seen[0].loss
    before, after = (checkpoints.load(path) for path in (start, out))
    assert after.metadata["supports"] == ["none", "ttt-mim"]
    changed = {
        name.split(".")[0]
        for name, value in before.network.state_dict().items()
        if not torch.equal(value, after.network.state_dict()[name])
    }
    assert changed == {"auxiliary_head"}


def test_weak_noise_of_a_mixture_is_learned_with_the_relative_error() -> None:
    clean = scene(64).repeat(2, 1, 1, 1)
    sigma = torch.tensor([2 / 255, 50 / 255]).reshape(2, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
    pulls = {}
    for error in ("l2", "relative"):
        recipe = load_recipe("supervised", {"error": error})
        half = torch.nn.Conv2d(3, 3, 1, groups=3, bias=False)
        torch.nn.init.constant_(half.weight, 0.5)
        gradients = []
        for one in (slice(0, 1), slice(1, 2)):
            half.zero_grad()
            recipe.loss(half, noisy[one], clean[one], generator)[0].backward()
            gradients.append(float(half.weight.grad.norm()))  # type: ignore[union-attr]
        pulls[error] = gradients[0] / gradients[1]
    assert pulls["relative"] > 10 * pulls["l2"]


def test_gray_photos_and_two_networks(photos: Path, tmp_path: Path) -> None:
    out = train(
        data=photos, val=photos, out=tmp_path / "n.safetensors", steps=2, noise="camera+jpeg:80",
        network="mim-unet", config={"width": 16, "levels": 2}, patch=32, batch=2, device="cpu",
    )  # fmt: skip
    checkpoint = checkpoints.load(out)
    assert checkpoint.metadata["network"] == "mim-unet"
    assert checkpoint.standardization.mean[0] == pytest.approx(0.485)


def test_time_can_be_the_limit(photos: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(data=photos, out=tmp_path / "n.safetensors", minutes=0.03, progress=seen.append, **SMALL)
    assert seen[-1].done >= 1
    assert seen[-1].steps is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "magic"}, "ttt-mim"),
        ({"noise": "rain"}, "gaussian"),
        ({"network": "magic"}, "mim-resunet"),
        ({"recipe": "supervised", "options": {"error": "l3"}}, "one of l2, l1, relative"),
        ({"options": {"only": "main"}}, "only must be auxiliary or empty"),
        ({"patch": 4096}, "--patch"),
        ({"data": "nowhere"}, "nowhere"),
    ],
)
def test_bad_arguments_are_named(
    photos: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arguments = {"data": photos, **SMALL, "config": {}, **change}
    with pytest.raises(UsageError, match=message):
        train(out=tmp_path / "n.safetensors", steps=1, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_broken_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        train(data=tmp_path, out=tmp_path / "n.safetensors", steps=1, **SMALL)


def test_nothing_to_resume_or_another_run(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "n.safetensors"
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(data=photos, out=out, steps=40, resume=True, **SMALL)

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data=photos, out=out, steps=40, progress=interrupt, **SMALL)
    with pytest.raises(CheckpointError, match="other arguments"):
        train(data=photos, out=out, steps=40, resume=True, **{**SMALL, "noise": "gaussian:9"})


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16)])
def test_orthogonalized_updates_have_equal_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalize(matrix))
    assert singular.min() > 0.5
    assert singular.max() < 1.3


def test_muon_descends() -> None:
    weight = torch.nn.Parameter(torch.ones(16, 16, 1, 1))
    optimizer = Muon([weight], lr=0.05)
    before = weight.square().mean().item()
    for _ in range(20):
        optimizer.zero_grad()
        weight.square().mean().backward()
        optimizer.step()
    assert weight.square().mean().item() < before


def test_patches_are_also_of_little_light_out_of_focus_and_of_other_colors() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)

    def patches(**shares: float) -> np.ndarray:
        sizes = {"patch": 32, "batch": 64, "seed": 0, "halve": 0.0}
        return Patches([photo], **sizes, **{"gray": 0.0, **shares})(0).astype(float)

    def contrast(batch: np.ndarray) -> float:
        return float(np.abs(np.diff(batch, axis=1)).mean())

    plain, other = patches(), patches(recolor=1.0)
    assert other.mean() == pytest.approx(plain.mean(), rel=0.1)
    colorful = [
        (batch.max(axis=3) - batch.min(axis=3)).mean(axis=(1, 2)) for batch in (plain, other)
    ]
    assert colorful[1].std() > 5 * colorful[0].std()
    gray, dim = patches(gray=1.0), patches(gray=1.0, dim=1.0)
    assert (dim == dim[..., :1]).all()
    assert dim.mean() < 0.7 * gray.mean()
    assert contrast(dim) / dim.mean() < 0.5 * contrast(gray) / gray.mean()


def test_half_of_the_gray_pictures_are_those_of_a_color_camera() -> None:
    clean = torch.full((256, 3, 24, 24), 0.5)
    clean[:64, 0] = 0.4  # in color
    noisy, _ = add_noise(noise.parse("gaussian:25"), clean, torch.Generator().manual_seed(0))
    sigma = 255 * (noisy - clean).std(dim=(2, 3))
    assert (noisy[:64, 0] - clean[:64, 0] != noisy[:64, 1] - clean[:64, 1]).any()
    assert (noisy[64:] == noisy[64:, :1]).all()
    # Luma is a weighted mean of three channels, whose noise is independent.
    weaker = 25 * (0.299**2 + 0.587**2 + 0.114**2) ** 0.5
    is_luma = sigma[64:, 0] < (25 + weaker) / 2
    assert 0.35 < is_luma.float().mean() < 0.65
    assert float(sigma[64:, 0][is_luma].mean()) == pytest.approx(weaker, rel=0.02)
    assert float(sigma[64:, 0][~is_luma].mean()) == pytest.approx(25, rel=0.02)
