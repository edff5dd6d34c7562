"""Models that the user already has, recognized by the library spandrel (an optional extra)."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError
from .published import tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

PICKLES = (".pth", ".pt", ".ckpt")
# Methods that need nothing of a network but its output.
SUPPORTS = ("none", "gaintuning")
# Networks of spandrel that take a noise level, for which it sets one itself.
LEVEL_INPUTS = ("DRUNet", "DnCNN")


def is_foreign(path: Path) -> bool:
    """Whether the file at `path` is not one of this program's checkpoints."""
    if path.suffix.lower() in PICKLES:
        return True
    if path.suffix.lower() != ".safetensors":
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return "denoise" not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # damaged: the loader of our own says how


def load(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of the file at `path`, and what is known of it as in a checkpoint's header.

    Nothing in the file is run: pickles are read with PyTorch's unpickler for tensors alone.

    Raises
    ------
    CheckpointError
        If spandrel is not installed, does not know the network, or it is none for denoising.
    """
    spandrel = library(path)
    state = _tensors(path)
    try:
        model = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except spandrel.UnsupportedModelError:
        raise CheckpointError(
            f"{path}: spandrel does not know this network; give a model file of an architecture "
            "it lists, such as DRUNet, SCUNet, NAFNet, Restormer or DnCNN"
        ) from None
    except Exception as error:  # whatever its architectures raise on tensors that do not fit
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path}: spandrel cannot build its network ({reason})") from None
    network = _network(path, model)
    header = {
        "title": f"{model.architecture.name}, recognized by spandrel",
        "network": model.architecture.name,
        "config": network.config,
        "supports": list(SUPPORTS),
    }
    return network.eval(), header


def library(path: Path) -> Any:
    """The module spandrel, asked for by the file at `path`.

    The torchvision it imports is, from the usual index, built for CUDA: beside a torch for the CPU
    its compiled operators are missing, and its import fails at those that it describes to torch.
    They are then declared, without code: networks for denoising call none.

    Raises
    ------
    CheckpointError
        If it is not installed or cannot be used.
    """
    try:
        try:
            import spandrel
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _declare_operators()
            import spandrel
    except ModuleNotFoundError as error:
        if error.name != "spandrel":
            raise CheckpointError(_unusable(path, error)) from None
        raise CheckpointError(
            f"{path}: not a checkpoint of denoise; models of other programs need "
            '`pip install "denoise-cli[spandrel]"`, published ones may do with '
            "`denoise weights import`"
        ) from None
    except (ImportError, RuntimeError) as error:
        raise CheckpointError(_unusable(path, error)) from None
    return spandrel


@cache
def _declare_operators() -> Any:
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "spandrel")]:
        del sys.modules[name]  # half imported
    declared = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return declared  # they last as long as it does


def _unusable(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return (
        f"{path}: the library spandrel is installed but cannot be used ({reason}); install the "
        "torchvision that belongs to this torch"
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix.lower() in PICKLES:
        return dict(tensors(path)[0])
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: no readable safetensors file ({error})") from None


def _network(path: Path, model: Any) -> nn.Module:
    """The network with the facts this program asks for."""
    from .networks.foreign import Foreign, LevelInput

    channels, size = model.input_channels, model.size_requirements
    if model.scale != 1 or model.output_channels != channels or channels not in (1, 3):
        raise CheckpointError(
            f"{path}: {model.architecture.name} makes {model.output_channels} channels of "
            f"{channels}, {model.scale} times as large; a denoiser keeps both (1 or 3 channels)"
        )
    if model.purpose != "Restoration" or size.square:
        raise CheckpointError(
            f"{path}: {model.architecture.name} is no network for denoising pictures of any size"
        )
    takes_level = model.architecture.id in LEVEL_INPUTS and _first_inputs(model.model) > channels
    kind = LevelInput if takes_level else Foreign
    return kind(model.model, channels=channels, multiple_of=size.multiple_of, minimum=size.minimum)


def _first_inputs(network: Any) -> int:
    """Channels that the first convolution takes."""
    first: Tensor = next(p for p in network.parameters() if p.ndim == 4)
    return first.shape[1]
