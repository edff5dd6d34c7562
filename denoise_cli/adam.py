"""The optimizer of adaptations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

# In one pass over the memory instead of eight: half of the time.
FUSED = ("cpu", "cuda") if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4) else ()


class Adam:
    """Adam, as torch computes it: Kingma and Ba, ICLR 2015.

    Building a `torch.optim.Optimizer` loads torch's compiler, which takes a second: as long as many
    an adaptation.

    Parameters
    ----------
    parameters : iterable of Parameter
        Are changed in place; those without a gradient stay.
    lr : float
        The learning rate; may be set between steps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self.lr = lr
        self._parameters = list(parameters)
        self._fused = all(parameter.device.type in FUSED for parameter in self._parameters)
        self._moments: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Take one step along the gradients, with all or some of the parameters."""
        chosen = self._parameters if parameters is None else parameters
        learning = [p for p in chosen if p.grad is not None]
        for p in learning:
            if p not in self._moments:
                taken = torch.zeros((), device=p.device if self._fused else "cpu")
                self._moments[p] = (torch.zeros_like(p), torch.zeros_like(p), taken)
        first, second, steps = ([self._moments[p][i] for p in learning] for i in range(3))
        adam(
            [p.data for p in learning],
            [p.grad for p in learning],  # type: ignore[misc]
            first,
            second,
            [],
            steps,
            fused=self._fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
