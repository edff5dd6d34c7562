"""Checkpoints: the manifest is true, files describe themselves, damage is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from denoise_cli import checkpoints, methods, networks
from denoise_cli.errors import CheckpointError, UnwritableOutput, UsageError


@pytest.mark.parametrize("name", checkpoints.names())
def test_every_entry_is_there_and_loads(name: str) -> None:
    entry = checkpoints.info(name)
    for key in ("title", "recipe", "noise", "data", "license", "date", "scores_command"):
        assert entry[key], key
    assert entry["channels"] in (1, 3)
    assert entry["scores"]
    assert name in entry["scores_command"]
    assert set(entry["supports"]) <= set(methods.METHODS)
    path = Path(entry["path"])
    assert path.stat().st_size == entry["size"] <= 16 * 2**20
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    checkpoint = checkpoints.load(name)
    assert checkpoint.metadata["network"] == entry["network"]
    assert (checkpoint.metadata["noise"] or "none") == entry["noise"]
    assert set(checkpoint.supports) == set(entry["supports"])
    assert not checkpoint.network.training


def test_every_method_has_a_default() -> None:
    for method in methods.METHODS:
        assert method in checkpoints.info(checkpoints.default_for(method))["supports"]


def small(path: Path, **metadata: object) -> Path:
    network = networks.build("mim-resunet", widths=[8, 16])
    checkpoints.save(path, network, {"network": "mim-resunet", "supports": ["none"], **metadata})
    return path


def test_the_header_says_everything(tmp_path: Path) -> None:
    path = small(tmp_path / "a.safetensors", noise="gaussian:25", mean=[0.5] * 3, std=[0.2] * 3)
    checkpoint = checkpoints.load(path)
    assert checkpoint.network.config == {"channels": 3, "widths": [8, 16], "blocks": 1}
    assert checkpoint.metadata["noise"] == "gaussian:25"
    assert tuple(checkpoint.standardization.mean) == (0.5, 0.5, 0.5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small(tmp_path / "a.safetensors")
    torch.manual_seed(0)
    small(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(UnwritableOutput, match="cannot be written"):
        small(tmp_path / "folder" / "a.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(UnwritableOutput, match=r"taken\.safetensors: cannot be written"):
        small(tmp_path / "taken.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "taken.safetensors"]


def test_unknown_weights_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ttt-mim"):
        checkpoints.load("nothing-like-it")
    with pytest.raises(UsageError):
        checkpoints.load(tmp_path / "missing.safetensors")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = small(tmp_path / "a.safetensors").read_bytes()
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "text": b"no weights",
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=name):
            checkpoints.load(tmp_path / name)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (trap,))

    torch.save({"state": Trap()}, tmp_path / "evil.safetensors")
    with pytest.raises(CheckpointError):
        checkpoints.load(tmp_path / "evil.safetensors")
    assert not trap.exists()


def test_foreign_and_unfitting_files_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="foreign"):
        checkpoints.load(tmp_path / "foreign.safetensors")
    header = {"network": "mim-resunet", "config": {"widths": [8, 16]}, "supports": ["none"]}
    save_file(
        {"embedding.weight": torch.zeros(3)},
        tmp_path / "part.safetensors",
        {checkpoints.HEADER: json.dumps(header)},
    )
    with pytest.raises(CheckpointError, match="part"):
        checkpoints.load(tmp_path / "part.safetensors")
