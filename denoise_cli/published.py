"""Checkpoints as the papers' authors publish them: recognized by their tensors, made ours.

Such files are pickles, which can run any code when they are opened. They are read with PyTorch's
unpickler for tensors alone; of what else they hold, a few names are let in as inert objects.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError
from .store import sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Config = dict[str, Any]
State = Mapping[str, "Tensor"]

# What the authors' training scripts left in their files beside tensors: the arguments of the
# training, and scores as NumPy numbers.
INERT = (
    ("argparse", "Namespace"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
)

# What PyTorch's unpickler raises on bytes that are no pickle
UNREADABLE = (
    *(UnpicklingError, RuntimeError, ValueError, OSError, EOFError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, MemoryError, struct.error),
)


@dataclass(frozen=True)
class Layout:
    """How the authors of one paper lay out the tensors of one network.

    Attributes
    ----------
    title, source : str
        What it is, and the repository that publishes it.
    network : str
        Our name of the network.
    supports : tuple of str
        The methods that such weights are for.
    marks : tuple of str
        Tensors that no other layout has.
    config : callable
        (tensors, training arguments) -> the network's constructor arguments, read from shapes.
    rename : callable
        Constructor arguments -> pairs (our tensor, theirs).
    ignored : str
        A regular expression of tensors that are constants of the architecture.
    mean, std : tuple of float
        The standardization.
    check : callable
        (tensors, constructor arguments); raises ValueError for tensors that do not fit.
    """

    title: str
    source: str
    network: str
    supports: tuple[str, ...]
    marks: tuple[str, ...]
    config: Callable[[State, Config], Config]
    rename: Callable[[Config], Iterator[tuple[str, str]]]
    ignored: str = "(?!)"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    check: Callable[[State, Config], None] = lambda state, config: None


def convert(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read a published checkpoint: the network with its weights, and the header for `save`.

    Raises
    ------
    CheckpointError
        If the file is missing, holds more than tensors, or its layout is not known exactly.
    """
    from . import networks

    state, arguments = tensors(path)
    layout = next((known for known in LAYOUTS if set(known.marks) <= set(state)), None)
    if layout is None:
        raise CheckpointError(
            f"{path}: its tensors are of no network known here; known are those of "
            + ", ".join(sorted({known.title for known in LAYOUTS}))
        )
    try:
        config = layout.config(state, arguments)
        names = dict(layout.rename(config))
        layout.check(state, config)
        network = networks.build(layout.network, **config)
    except (LookupError, ValueError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no {layout.title} as it is known ({error})") from None
    ours = network.state_dict()
    _check_names(path, layout, state, set(names.values()))
    for our, their in names.items():
        if ours[our].shape != state[their].shape:
            raise CheckpointError(
                f"{path}: {their} has the shape {tuple(state[their].shape)} where {layout.title} "
                f"has {tuple(ours[our].shape)}"
            )
    network.load_state_dict({our: state[their] for our, their in names.items()}, strict=True)
    return network.eval(), _header(path, layout, arguments)


def _header(path: Path, layout: Layout, arguments: Config) -> dict[str, Any]:
    header: dict[str, Any] = {
        "title": layout.title,
        "network": layout.network,
        "supports": list(layout.supports),
        "mean": list(layout.mean),
        "std": list(layout.std),
        "source": layout.source,
        "source_file": path.name,
        "source_sha256": sha256_of(path),
        "license": f"see {layout.source}",
    }
    low, high = arguments.get("min_noise"), arguments.get("max_noise")
    if isinstance(low, int | float) and isinstance(high, int | float):
        header["noise"] = f"gaussian:{low:g}-{high:g}"
    return header


def _check_names(path: Path, layout: Layout, state: State, wanted: set[str]) -> None:
    missing = sorted(wanted - set(state))
    strange = sorted(key for key in set(state) - wanted if not re.fullmatch(layout.ignored, key))
    if missing or strange:
        problem = f"lacks {missing[0]}" if missing else f"has {strange[0]}, which is not known"
        count = len(missing) + len(strange)
        others = f" and {count - 1} more tensors differ" if count > 1 else ""
        raise CheckpointError(f"{path}: {layout.title} is expected, but it {problem}{others}")


# Reading


class _Inert:
    """Stands for an object of a file; calls and does nothing, keeps the attributes it is given."""

    def __new__(cls, *_: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def tensors(path: Path) -> tuple[State, Config]:
    """The tensors of a file and the arguments of the training, if it has them; nothing is run.

    Raises
    ------
    CheckpointError
        If the file is missing, no PyTorch checkpoint, or holds more than tensors.
    """
    import torch

    content = _unpickle(path)
    arguments = vars(content["args"]) if isinstance(content.get("args"), _Inert) else {}
    state: Any = content
    for key in ("state_dict", "params", "model"):
        if key in content:
            state = content[key]
    if isinstance(state, list) and len(state) == 1:
        state = state[0]
    whole = isinstance(state, dict) and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    )
    if not (whole and state):
        raise CheckpointError(f"{path}: holds no network's tensors; give the authors' own file")
    # What DataParallel puts before each name
    return {key.removeprefix("module."): value for key, value in state.items()}, arguments


def _unpickle(path: Path) -> dict[str, Any]:
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    stand_ins = [type(name, (_Inert,), {"__module__": module}) for module, name in INERT]
    # Before PyTorch 2.5 there is none: files that hold more than tensors are refused there.
    allowing = getattr(torch.serialization, "safe_globals", nullcontext)
    try:
        with allowing(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with the file is said below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        # Of its own text only the name of what it met is of use here.
        culprit = re.search(r"GLOBAL (\S+)|[Cc]an only \w+ \S* ?(\S+)", str(error))
        if "weights_only" in str(error).lower() and culprit:
            name = next(group for group in culprit.groups() if group)
            raise CheckpointError(
                f"{path}: refused, as it holds code or objects ({name}) beside tensors; nothing "
                "of it was run"
            ) from None
        raise CheckpointError(f"{path}: no readable PyTorch checkpoint") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no network's tensors; give the authors' own file")
    return content


# The layouts


def _both(our: str, their: str, *leaves: str) -> Iterator[tuple[str, str]]:
    for leaf in leaves or ("weight", "bias"):
        yield f"{our}.{leaf}", f"{their}.{leaf}"


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _ttt_mim_config(state: State, _: Config) -> Config:
    width, channels = state["proj.weight"].shape[:2]
    return {"channels": channels, "width": width, "levels": _count(state, "down_sample_layers.{}.")}


def _ttt_mim_names(config: Config) -> Iterator[tuple[str, str]]:
    def block(our: str, their: str) -> Iterator[tuple[str, str]]:
        # Theirs has a dropout after each activation.
        for ours_at, theirs_at in ((0, 0), (3, 4)):
            yield from _both(f"{our}.{ours_at}", f"{their}.layers.{theirs_at}", "weight")
            yield from _both(f"{our}.{ours_at + 1}", f"{their}.layers.{theirs_at + 1}")

    levels = config["levels"]
    yield "mask_token", "mask_token"
    yield from _both("embedding", "proj")
    yield from block("bottleneck", "conv")
    for level in range(levels):
        yield from block(f"encoder.{level}", f"down_sample_layers.{level}")
        # Their decoder is counted from the bottom.
        up = f"up_transpose_conv.{levels - 1 - level}.layers"
        yield from _both(f"up.{level}.0", f"{up}.0", "weight")
        yield from _both(f"up.{level}.1", f"{up}.1")
    for level in range(1, levels):
        yield from block(f"decoder.{level - 1}", f"up_conv.{levels - 1 - level}")
    for our, their in (("main_head", "main_block"), ("auxiliary_head", "pred_block")):
        yield from block(our, f"{their}.0")
        yield from _both(f"{our}.6", f"{their}.1")


def _hourglass_config(state: State, _: Config) -> Config:
    width, inputs = state["net.1.0.1.1.weight"].shape[:2]
    scales = 1
    while f"net.1.1.{'7.1.1.' * scales}1.1.weight" in state:
        scales += 1
    channels = state["net.9.1.weight"].shape[0]
    return {"inputs": inputs, "channels": channels, "width": width, "scales": scales}


def _hourglass_names(config: Config) -> Iterator[tuple[str, str]]:
    # Each scale holds the next deeper one. A convolution is the second part of a pair, after its
    # padding; parts are counted from 1.
    for scale in range(config["scales"]):
        our, their = f"scales.{scale}", "net." + "1.1.7." * scale
        yield from _both(f"{our}.skip.0", f"{their}1.0.1.1")
        yield from _both(f"{our}.skip.1", f"{their}1.0.2", *_NORM)
        for at, part in ((0, 1), (3, 4)):
            yield from _both(f"{our}.down.{at}", f"{their}1.1.{part}.1")
            yield from _both(f"{our}.down.{at + 1}", f"{their}1.1.{part + 1}", *_NORM)
        yield from _both(f"{our}.join.0", f"{their}2", *_NORM)
        for at, part in ((1, 3), (4, 6)):
            yield from _both(f"{our}.join.{at}", f"{their}{part}.1")
            yield from _both(f"{our}.join.{at + 1}", f"{their}{part + 1}", *_NORM)
    yield from _both("last", "net.9.1")


def _dncnn_config(state: State, _: Config) -> Config:
    width, channels = state["first_layer.weight"].shape[:2]
    depth = _count(state, "hidden_layer_list.{}.") + 2
    bias = "first_layer.bias" in state
    return {"channels": channels, "width": width, "depth": depth, "bias": bias}


def _dncnn_names(config: Config) -> Iterator[tuple[str, str]]:
    leaves = ("weight", "bias") if config["bias"] else ("weight",)
    yield from _both("first", "first_layer", *leaves)
    yield from _both("last", "last_layer", *leaves)
    for index in range(config["depth"] - 2):
        yield from _both(f"hidden.{index}", f"hidden_layer_list.{index}", *leaves)
        yield from _both(f"norms.{index}", f"bn_layer_list.{index}", *_NORM)


def _unet_config(state: State, arguments: Config) -> Config:
    # Whether it predicts picture or noise cannot be seen in the tensors; the training's arguments
    # say it, and all published files predict the picture.
    return {
        "channels": state["conv1.weight"].shape[1],
        "bias": "conv1.bias" in state,
        "residual": bool(arguments.get("residual", False)),
    }


def _unet_names(config: Config) -> Iterator[tuple[str, str]]:
    leaves = ("weight", "bias") if config["bias"] else ("weight",)
    ours = ["first", "skip", "down", "middle.0", "middle.1", "middle.2", "up", "join"]
    for number, our in enumerate(ours, 1):
        yield from _both(our, f"conv{number}", *leaves)
    yield from _both("last", "conv9", "weight")


_BLOCK = "layers.{}.residual_group.blocks.{}"


def _swin_config(state: State, _: Config) -> Config:
    width, channels = state["conv_first.weight"].shape[:2]
    first = _BLOCK.format(0, 0)
    positions, heads = state[f"{first}.attn.relative_position_bias_table"].shape
    depths = [
        _count(state, _BLOCK.format(layer, "{}."))
        for layer in range(_count(state, "layers.{}.residual_group."))
    ]
    return {
        "channels": channels,
        "width": width,
        "depths": depths,
        "heads": heads,
        "window": (round(positions**0.5) + 1) // 2,
        "mlp_ratio": state[f"{first}.mlp.fc1.weight"].shape[0] / width,
    }


def _swin_names(config: Config) -> Iterator[tuple[str, str]]:
    yield from _both("embedding", "conv_first")
    yield from _both("first_norm", "patch_embed.norm")
    yield from _both("last_norm", "norm")
    yield from _both("last", "conv_last")
    for at in (0, 2, 4):
        yield from _both(f"fuse.{at}", f"conv_after_body.{at}")
    for group, depth in enumerate(config["depths"]):
        for at in (0, 2, 4):
            yield from _both(f"groups.{group}.fuse.{at}", f"layers.{group}.conv.{at}")
        for block in range(depth):
            our, their = f"groups.{group}.blocks.{block}", _BLOCK.format(group, block)
            yield f"{our}.position_bias", f"{their}.attn.relative_position_bias_table"
            for part, name in (("norm", "norm1"), ("qkv", "attn.qkv"), ("project", "attn.proj")):
                yield from _both(f"{our}.{part}", f"{their}.{name}")
            for part, name in (("mlp_norm", "norm2"), ("mlp.0", "mlp.fc1"), ("mlp.2", "mlp.fc2")):
                yield from _both(f"{our}.{part}", f"{their}.{name}")


def _check_swin(state: State, config: Config) -> None:
    from .networks.swin import relative_positions

    index = relative_positions(config["window"])
    for key, value in state.items():
        if key.endswith(".relative_position_index") and not index.equal(value.to(index.dtype)):
            raise ValueError(f"{key} is unusual")


def _count(state: State, pattern: str) -> int:
    """How many numbers, from 0 on, the names of `state` have at ``{}`` of their start."""
    count = 0
    while any(key.startswith(pattern.format(count)) for key in state):
        count += 1
    return count


_BIAS_FREE = "https://github.com/LabForComputationalVision/bias_free_denoising"

LAYOUTS = (
    Layout(
        title="TTT-MIM joint U-Net",
        source="https://github.com/MLI-lab/TTT_Denoising",
        network="mim-unet",
        supports=("none", "ttt-mim"),
        marks=("mask_token", "proj.weight", "main_block.1.weight", "pred_block.1.weight"),
        config=_ttt_mim_config,
        rename=_ttt_mim_names,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    Layout(
        title="MPI hourglass",
        source="https://github.com/krennic999/MPI",
        network="hourglass",
        supports=("mpi",),
        marks=("net.1.0.1.1.weight", "net.9.1.weight"),
        config=_hourglass_config,
        rename=_hourglass_names,
    ),
    Layout(
        title="DnCNN of bias-free denoising",
        source=_BIAS_FREE,
        network="dncnn",
        supports=("none", "gaintuning"),
        marks=("first_layer.weight", "hidden_layer_list.0.weight"),
        config=_dncnn_config,
        rename=_dncnn_names,
    ),
    Layout(
        title="UNet of bias-free denoising",
        source=_BIAS_FREE,
        network="dilated-unet",
        supports=("none", "gaintuning"),
        marks=tuple(f"conv{number}.weight" for number in range(1, 10)),
        config=_unet_config,
        rename=_unet_names,
    ),
    Layout(
        title="Swin transformer of masked image training",
        source="https://github.com/haoyuc/MaskedDenoising",
        network="masked-swin",
        supports=("none", "masked"),
        marks=("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight"),
        config=_swin_config,
        rename=_swin_names,
        ignored=r".*\.(relative_position_index|attn_mask)",
        mean=(0.4488, 0.4371, 0.4040),
        std=(1.0, 1.0, 1.0),
        check=_check_swin,
    ),
)
