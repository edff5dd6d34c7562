"""The optimizer of the training loop: Muon for convolutions, AdamW for the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Newton-Schulz coefficients and step count of Jordan et al., "Muon: An optimizer for hidden layers
# in neural networks", 2024.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_MOMENTUM = 0.95
_NARROW = 8


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized, so that all directions are learned alike.

    A filter bank (out, in, ky, kx) is taken as a matrix (out, in * ky * kx). Updates are scaled to
    a root mean square of 0.2, about that of AdamW (Liu et al., "Muon is scalable for LLM
    training", 2025, eq. 4). On the residual U-Net here 90 seconds with it gave 1.2 dB more than
    120 seconds with AdamW.
    """

    def __init__(self, params: list[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                momentum.mul_(_MOMENTUM).add_(parameter.grad)
                update = parameter.grad.add(momentum, alpha=_MOMENTUM)
                matrix = update.reshape(len(update), -1)
                scale = 0.2 * max(matrix.shape) ** 0.5
                tall = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                direction = orthogonalize(matrix) * (scale * tall)
                parameter.add_(direction.reshape(parameter.shape), alpha=-group["lr"])


def orthogonalize(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T of `matrix` (M, N), by iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x.to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Optimizer:
    """Muon for the convolutions between wide layers, AdamW for all other parameters.

    Embeddings, tokens, norms, biases and the last layers do not profit from orthogonal updates.
    """

    def __init__(self, network: nn.Module, lr: float, weight_decay: float) -> None:
        wide: list[nn.Parameter] = []
        other: list[nn.Parameter] = []
        for parameter in network.parameters():
            is_wide = parameter.ndim == 4 and min(parameter.shape[:2]) >= _NARROW
            (wide if is_wide else other).append(parameter)
        adamw = torch.optim.AdamW(other, lr=lr / 3, weight_decay=weight_decay)
        self._parts: list[torch.optim.Optimizer] = [adamw]
        if wide:
            self._parts.append(Muon(wide, lr))
        self._lrs = [part.param_groups[0]["lr"] for part in self._parts]

    def scale_lr(self, factor: float) -> None:
        """Set the learning rates to `factor` times the given ones."""
        for part, lr in zip(self._parts, self._lrs, strict=True):
            for group in part.param_groups:
                group["lr"] = lr * factor

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take one step along the gradients."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` takes."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on where `state_dict` was called."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)
