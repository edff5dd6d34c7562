"""Checkpoints: where they are, what they say of themselves, how they are loaded and saved.

A checkpoint is a safetensors file whose header carries everything needed to use it: the network
and its constructor arguments, the normalization it was trained with, and the methods it supports.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, UsageError
from .normalize import Standardization

if TYPE_CHECKING:
    from torch import nn

HERE = Path(__file__).resolve().parent
# In a wheel the weights lie inside the package; in a source checkout beside it.
HEADER = "denoise"
FOLDERS = (HERE / "weights", HERE.parent / "weights")


@dataclass(frozen=True)
class Checkpoint:
    """A network with its trained weights, and what is known of them.

    Attributes
    ----------
    name : str
        Name in the manifest, or the path it was loaded from.
    network : torch.nn.Module
        In evaluation mode, fp32, on the CPU.
    standardization : Standardization
        What its inputs must be put through.
    supports : tuple of str
        The methods it can be used with.
    metadata : dict
        The whole header: recipe, noise, data, steps, scores.
    """

    name: str
    network: nn.Module
    standardization: Standardization
    supports: tuple[str, ...]
    metadata: dict[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """Names of all checkpoints of the manifest."""
    return list(_manifest())


def info(name: str) -> dict[str, Any]:
    """The manifest's entry for `name`, with `path` (str or None where the file is not here)."""
    entry = dict(_entry(name))
    found = _find(entry["file"])
    return {"name": name, **entry, "path": str(found) if found else None}


def default_for(method: str) -> str:
    """The first checkpoint of the manifest that supports `method`."""
    for name, entry in _manifest().items():
        if method in entry["supports"]:
            return name
    raise CheckpointError(f"no checkpoint supports the method {method!r}; give one with --weights")


def load(name_or_path: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint by its name in the manifest or from a ``.safetensors`` file.

    Raises
    ------
    UsageError
        If it is neither a known name nor an existing file.
    CheckpointError
        If the file is damaged or does not describe its network.
    """
    text = os.fspath(name_or_path)
    if text in _manifest():
        entry = _entry(text)
        path = _find(entry["file"])
        if path is None:
            raise CheckpointError(f"weights {text!r}: {entry['file']} is not installed here")
        _verify(path, entry["sha256"])
        return _load_file(path, text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            f"weights {text!r} are neither a file nor a known name; known are {', '.join(names())}"
        )
    return _load_file(path, text)


def save(path: str | os.PathLike[str], network: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write `network` to a self-describing safetensors file, weights in fp16.

    `metadata` must hold ``network`` (a name of `networks.NETWORKS`), ``supports`` (list of
    methods) and may hold ``mean`` and ``std`` (the standardization) and whatever else is known of
    the training; the network's constructor arguments are added. The file appears at once or not
    at all.
    """
    import torch
    from safetensors.torch import save_file

    header = {"config": network.config, **metadata}
    tensors = {
        key: value.detach().to("cpu", torch.float16).contiguous()
        for key, value in network.state_dict().items()
    }
    temporary = Path(path).with_name(f".{Path(path).name}.part")
    try:
        # One entry: safetensors keeps several in no fixed order.
        save_file(tensors, temporary, {HEADER: json.dumps(header)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _load_file(path: Path, name: str) -> Checkpoint:
    import torch
    from safetensors import SafetensorError, safe_open

    from . import networks

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            state = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118
        network = networks.build(header["network"], **header["config"])
        network.load_state_dict(state, strict=True)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from None
    except KeyError as error:
        raise CheckpointError(
            f"{path}: its header does not say {error}; not made by denoise"
        ) from None
    except (RuntimeError, TypeError, UsageError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: does not fit the network it names ({reason})") from None
    standardization = Standardization(header.get("mean", [0.0]), header.get("std", [1.0]))
    return Checkpoint(name, network.eval(), standardization, tuple(header["supports"]), header)


def _verify(path: Path, sha256: str) -> None:
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != sha256:
        raise CheckpointError(
            f"{path}: damaged (SHA-256 {actual[:12]}..., not {sha256[:12]}...); install it anew"
        )


def _find(file: str) -> Path | None:
    return next((folder / file for folder in FOLDERS if (folder / file).is_file()), None)


def _entry(name: str) -> dict[str, Any]:
    try:
        return _manifest()[name]
    except KeyError:
        raise UsageError(f"unknown weights {name!r}; known are {', '.join(names())}") from None


def _manifest() -> dict[str, dict[str, Any]]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]

    path = _find("manifest.toml")
    if path is None:
        raise CheckpointError("the weights folder is missing; install denoise-cli anew")
    return tomllib.loads(path.read_text(encoding="utf-8"))
