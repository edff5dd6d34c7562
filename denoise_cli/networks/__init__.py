"""The networks: pure functions of their input. One line each; names need no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    "blind-spot": "blind_spot:BlindSpot",
    "dilated-unet": "dilated_unet:DilatedUNet",
    "dncnn": "dncnn:DnCNN",
    "fill-resunet": "fill_resunet:FillResUNet",
    "hourglass": "hourglass:Hourglass",
    "masked-swin": "swin:MaskedSwin",
    "mim-resunet": "mim_resunet:MIMResUNet",
    "mim-unet": "mim_unet:MIMUNet",
    "multitask": "multitask:MultiTask",
}


def build(name: str, **config: Any) -> nn.Module:
    """Build the network called `name` with random weights; `config` are its constructor arguments.

    Raises
    ------
    UsageError
        If there is no such network.
    """
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; known are {', '.join(sorted(NETWORKS))}")
    module, cls = NETWORKS[name].split(":")
    network: nn.Module = getattr(import_module(f".{module}", __name__), cls)(**config)
    return network
