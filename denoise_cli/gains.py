"""One gain a channel on the filters of any network: the few parameters that GainTuning learns."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class _Gain(nn.Module):
    """Multiplies the filters of each output channel; as a parametrization of a weight."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        weight: Tensor = conv.weight  # type: ignore[assignment]
        groups: int = conv.groups  # type: ignore[assignment]
        ones = [1] * (weight.ndim - 2)
        if isinstance(conv, TRANSPOSED):
            # (in, out / groups, ...): the output channels of a group share its rows.
            self.rows = weight.shape[0] // groups
            shape = (groups, weight.shape[1], *ones)
        else:
            self.rows = 0
            shape = (weight.shape[0], 1, *ones)
        self.gain = nn.Parameter(torch.ones(shape, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        gain = self.gain.repeat_interleave(self.rows, dim=0) if self.rows else self.gain
        return weight * gain


def with_gains(network: nn.Module) -> tuple[nn.Module, list[nn.Parameter]]:
    """A copy of `network` with gains of 1 on every convolution, and those gains.

    All other parameters of the copy are fixed, and it is in evaluation mode: the statistics of
    normalizations stay as they are. Layers other than convolutions have no gains.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    gains = []
    for conv in [m for m in copied.modules() if isinstance(m, (*CONVOLUTIONS, *TRANSPOSED))]:
        parametrization = _Gain(conv)
        parametrize.register_parametrization(conv, "weight", parametrization)
        gains.append(parametrization.gain)
    return copied, gains


def fold(network: nn.Module) -> nn.Module:
    """Multiply the gains of `with_gains` into the weights; returns `network`."""
    for module in list(network.modules()):
        if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)) and parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return network.requires_grad_(False)
