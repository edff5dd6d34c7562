"""Losses of a picture against itself: shared by training and by adaptation."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

Parameters = dict[str, Tensor]


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the pixels that `mask` (N, 1, Y, X; 1 = visible) hides.

    TTT-MIM, eq. 3 (`target` = noisy picture) and eq. 5 (`target` = pseudo-clean picture).
    """
    hidden = 1 - mask
    total = ((prediction - target).abs() * hidden).sum()
    return total / (hidden.sum() * prediction.shape[1]).clamp(min=1)


def weighted_l1(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of the absolute errors times `weight` (N, 1, Y, X) on 0..1.

    The auxiliary loss of meta-transfer learning (Gunawan et al., 2022); `weight` is the output of
    its mask network.
    """
    return ((prediction - target).abs() * weight).mean()


def adapt_heads(
    heads: nn.Module,
    parameters: Parameters,
    features: Tensor,
    noisy: Tensor,
    mask: Tensor,
    lr: float,
) -> tuple[Parameters, Tensor]:
    """One gradient step of both heads of a `MultiTask` network on the auxiliary loss.

    The step that algorithm 2 of Gunawan et al. learns through and algorithm 3 takes. Nothing is
    changed in place, and the result is differentiable in all arguments.

    Parameters
    ----------
    heads : nn.Module
        Called with `features` and `noisy`, gives the clean and the rebuilt noisy picture.
    parameters : dict
        The weights to start from, by the names they have in `heads`.
    features, noisy, mask : Tensor
        (N, W, Y, X), (N, C, Y, X) and (N, 1, Y, X).
    lr : float
        Length of the step.

    Returns
    -------
    dict, Tensor
        The new weights, and the loss of the given ones.
    """

    def auxiliary(parameters: Parameters) -> Tensor:
        _, rebuilt = functional_call(heads, parameters, (features, noisy))
        return weighted_l1(rebuilt, noisy, mask)

    gradients, loss = grad_and_value(auxiliary)(parameters)
    stepped = {name: value - lr * gradients[name] for name, value in parameters.items()}
    return stepped, loss
