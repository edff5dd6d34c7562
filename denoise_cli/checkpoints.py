"""Checkpoints: what they say of themselves, how they are loaded and saved; see `store` for where.

A checkpoint is a safetensors file whose header carries everything needed to use it: the network
and its constructor arguments, the normalization it was trained with, and the methods it supports.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import foreign, store
from .errors import CheckpointError, UnwritableOutput, UsageError
from .normalize import Standardization
from .store import default_for, names

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "Checkpoint",
    "default_for",
    "default_method",
    "info",
    "load",
    "names",
    "read_header",
    "save",
]

HEADER = "denoise"


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


def info(name: str) -> dict[str, Any]:
    """What is known of the checkpoint `name`: see `store.info`; of an imported one also its header.

    An imported file that cannot be read supports nothing and has the reason as its `title`.
    """
    entry = store.info(name)
    if entry["imported"]:
        try:
            return {**read_header(entry["path"]), **entry}
        except CheckpointError as error:
            return {**entry, "title": str(error), "supports": []}
    return entry


def default_method(weights: str | os.PathLike[str] | None) -> str:
    """The method where none is named: ``auto``, or the first that the checkpoint given is made for.

    Raises
    ------
    UsageError, CheckpointError
        As `load` does.
    """
    if weights is None:
        return "auto"
    text = os.fspath(weights)
    if text in names():
        supports = info(text)["supports"]
    elif Path(text).is_file() and not foreign.is_foreign(Path(text)):
        supports = read_header(text).get("supports", ())
    else:
        supports = load(text).supports
    return next((method for method in supports if method != "none"), "none")


def load(name_or_path: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint by its name or from a file.

    A checkpoint of the manifest that is not here is downloaded. A file that is called like a
    checkpoint is given as ``./ttt-mim``. Files of other programs (``.pth``, ``.safetensors``) are
    recognized by the library spandrel, where it is installed.

    Raises
    ------
    UsageError
        If it is neither a known name nor an existing file.
    CheckpointError
        If the file cannot be had, is damaged or does not describe its network.
    """
    text = os.fspath(name_or_path)
    if text in names():
        return _load_file(store.fetch(text), text)
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            f"weights {text!r} are neither a file nor a known name; known are {', '.join(names())}"
        )
    if foreign.is_foreign(path):
        network, header = foreign.load(path)
        return Checkpoint(text, network, Standardization(), tuple(header["supports"]), header)
    return _load_file(path, text)


def save(
    path: str | os.PathLike[str],
    network: nn.Module,
    metadata: Mapping[str, Any],
    *,
    half: bool = True,
) -> None:
    """Write `network` to a self-describing safetensors file, weights in fp16 where `half`.

    `metadata` must hold ``network`` (a name of `networks.NETWORKS`), ``supports`` (list of
    methods) and may hold ``mean`` and ``std`` (the standardization) and whatever else is known of
    the training; the network's constructor arguments are added. Buffers, such as the statistics of
    batch normalization, keep their type: fp16 cannot hold all of them. The file appears at once or
    not at all.

    Raises
    ------
    UnwritableOutput
        If the file cannot be written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = {**metadata, "config": network.config}
    weights = {key for key, _ in network.named_parameters()} if half else set()
    tensors = {
        key: value.detach().to("cpu", torch.float16 if key in weights else None).contiguous()
        for key, value in network.state_dict().items()
    }
    temporary = Path(path).with_name(f".{Path(path).name}.part")
    try:
        # One entry: safetensors keeps several in no fixed order.
        save_file(tensors, temporary, {HEADER: json.dumps(header)})
        temporary.chmod(0o666 & ~store.umask())  # the library makes it private
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnwritableOutput(f"{path}: cannot be written ({reason})") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the checkpoint at `path` says of itself; its tensors are not read.

    Raises
    ------
    CheckpointError
        If the file is damaged or not made by denoise.
    """
    return _read(Path(path), tensors=False)[0]


def _read(path: Path, *, tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt" if tensors else "np") as file:
            header = json.loads((file.metadata() or {})[HEADER])
            keys = file.keys() if tensors else []
            return header, {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from None
    except KeyError as error:
        raise CheckpointError(
            f"{path}: its header does not say {error}; not made by denoise"
        ) from None


def _load_file(path: Path, name: str) -> Checkpoint:
    from . import networks

    header, state = _read(path, tensors=True)
    try:
        network = networks.build(header["network"], **header["config"])
        # The network is fp32 and takes the tensors in its own types.
        network.load_state_dict(state, strict=True)
    except KeyError as error:
        raise CheckpointError(
            f"{path}: its header does not say {error}; not made by denoise"
        ) from None
    except (RuntimeError, TypeError, UsageError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: does not fit the network it names ({reason})") from None
    standardization = Standardization(header.get("mean", [0.0]), header.get("std", [1.0]))
    return Checkpoint(name, network.eval(), standardization, tuple(header["supports"]), header)
