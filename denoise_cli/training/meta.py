"""Recipe ``meta``: a network that learns to be adapted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from ..errors import UsageError
from ..networks.multitask import MultiTask
from ..objectives import Parameters, auxiliary_step, weighted_l1


@dataclass(frozen=True)
class MetaTransfer:
    """Meta-transfer learning (Gunawan et al., 2022), both stages as their algorithms are printed.

    Stage 1, algorithm 1 (meta-auxiliary learning): the restoration network learns both tasks; the
    mask network learns where the auxiliary task helps the primary one, through one step that the
    restoration network would take (second-order), and is drawn towards the picture's own edges
    (L_G). Stage 2, algorithm 2 (meta-transfer), starts from stage 1 with ``--init``: for each
    picture both heads take `steps` steps on the auxiliary loss, one after the other, and all
    weights learn from how good the primary task is thereafter (second-order as well).

    The gradients of algorithm 1's two updates go to different weights, so one loss carries both;
    the second sees a `share` of each batch. Differs from the authors' code: the inner steps of
    stage 2 add up (there each starts from the same weights), stage 2 does start from stage 1, and
    each picture is adapted to by itself. Differs from the paper: the training loop's optimizer.
    """

    network: str = "multitask"
    supports: tuple[str, ...] = ("none", "meta-transfer")
    noise: str | None = "camera"
    stage: int = 1
    steps: int = 5
    inner_lr: float = 0.02
    edges: float = 0.01
    share: float = 0.25
    lr: float = 1e-3
    weight_decay: float = 0.0
    patch: int = 64
    batch: int = 16

    def __post_init__(self) -> None:
        if self.stage not in (1, 2):
            raise UsageError(f"stage must be 1 or 2, not {self.stage}")
        if self.steps < 1 or self.inner_lr <= 0:
            raise UsageError("steps and inner_lr must be above 0")

    def loss(
        self, network: nn.Module, noisy: Tensor, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch (N, C, Y, X) as the network sees it, and its parts."""
        del generator
        if not isinstance(network, MultiTask):
            raise UsageError("the recipe 'meta' trains the network multitask only")
        if self.stage == 2:
            loss = self._transfer(network, noisy, clean)
            return loss, {"main": loss}
        mask = network.mask_network(noisy).detach()
        normal = _both_tasks(network.restoration(noisy), noisy, clean, mask)
        few = max(1, round(self.share * len(noisy)))
        masks = self._learn_mask(network, noisy[:few], clean[:few])
        return normal + masks, {"main": normal, "mask": masks}

    def predict(self, network: nn.Module, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """What a validation scores: stage 2 denoises with adapted heads."""
        if self.stage == 2 and isinstance(network, MultiTask):
            return self._adapted(network, noisy)
        return network(noisy)

    def _learn_mask(self, network: MultiTask, noisy: Tensor, clean: Tensor) -> Tensor:
        """Algorithm 1, the update of the mask network: the primary loss after one step."""
        restoration, mask = network.restoration, network.mask_network(noisy)
        start = {name: value.detach() for name, value in restoration.named_parameters()}

        def joint(parameters: Parameters) -> Tensor:
            pictures = functional_call(restoration, parameters, (noisy,))
            return _both_tasks(pictures, noisy, clean, mask)

        gradients = grad(joint)(start)
        stepped = {name: value - self.inner_lr * gradients[name] for name, value in start.items()}
        denoised, _ = functional_call(restoration, stepped, (noisy,))
        edges = sum((_edges(mask, dim) - _edges(noisy, dim)).abs().mean() for dim in (-2, -1))
        return (denoised - clean).abs().mean() + self.edges * edges

    def _transfer(self, network: MultiTask, noisy: Tensor, clean: Tensor) -> Tensor:
        """Algorithm 2: the primary loss after the heads' steps, averaged over the pictures."""
        return (self._adapted(network, noisy) - clean).abs().mean()

    def _adapted(self, network: MultiTask, noisy: Tensor) -> Tensor:
        """Each picture denoised by heads that have taken their steps on it."""
        heads = network.restoration.heads
        features, mask = network.restoration.body(noisy), network.mask_network(noisy)
        denoised = []
        for one in (slice(i, i + 1) for i in range(len(noisy))):
            parameters: Parameters = dict(heads.named_parameters())
            inputs = (features[one], noisy[one])
            for _ in range(self.steps):
                parameters, _ = auxiliary_step(heads, parameters, inputs, mask[one], self.inner_lr)
            denoised.append(functional_call(heads, parameters, inputs)[0])
        return torch.cat(denoised)


def _both_tasks(
    pictures: tuple[Tensor, Tensor], noisy: Tensor, clean: Tensor, mask: Tensor
) -> Tensor:
    denoised, rebuilt = pictures
    return (denoised - clean).abs().mean() + weighted_l1(rebuilt, noisy, mask)


def _edges(pictures: Tensor, dim: int) -> Tensor:
    return pictures.diff(dim=dim).abs()
