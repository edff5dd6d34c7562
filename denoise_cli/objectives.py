"""Losses of a picture against itself: shared by training and by adaptation."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from . import lanes
from .neighbors import WHITE, Neighbors
from .noise_level import NoiseLevel
from .transforms import distinct_planes

Parameters = dict[str, Tensor]
Predict = Callable[[Tensor], Tensor]  # (N, C, Y, X) -> same shape

# Of a standard deviation of the noise. Large enough for half precision, small enough for the
# difference quotient: see `sure`.
PROBE_STEP = 0.1
# Gradients of a mean over a picture are tiny; Adam ignores the factor, half precision does not.
GRADIENT_SCALE = 1024.0


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


def auxiliary_step(
    network: nn.Module,
    parameters: Parameters,
    inputs: tuple[Tensor, ...],
    mask: Tensor,
    lr: float,
) -> tuple[Parameters, Tensor]:
    """One gradient step of a `MultiTask` network, or of its heads, on the auxiliary loss.

    The step that algorithm 2 of Gunawan et al. learns through and algorithm 3 takes. Nothing is
    changed in place, and the result is differentiable in all arguments.

    Parameters
    ----------
    network : nn.Module
        Called with `inputs`, gives the clean and the rebuilt noisy picture.
    parameters : dict
        The weights to start from, by the names they have in `network`.
    inputs : tuple of Tensor
        The noisy pictures (N, C, Y, X) are the last of them.
    mask : Tensor
        (N, 1, Y, X) on 0..1.
    lr : float
        Length of the step.

    Returns
    -------
    dict, Tensor
        The new weights, and the loss of the given ones.
    """

    def auxiliary(parameters: Parameters) -> Tensor:
        _, rebuilt = functional_call(network, parameters, inputs)
        return weighted_l1(rebuilt, inputs[-1], mask)

    gradients, loss = grad_and_value(auxiliary)(parameters)
    stepped = {name: value - lr * gradients[name] for name, value in parameters.items()}
    return stepped, loss


def blind_spot(
    predict: Predict,
    noisy: Tensor,
    share: float,
    generator: torch.Generator,
    weight: Tensor | None = None,
) -> Tensor:
    """Mean squared error at pixels that `predict` cannot see, against `noisy` (N, C, Y, X).

    A random `share` of the pixels, in all channels, is replaced by the mean of the eight
    neighbors; with noise that is independent from pixel to pixel, the picture itself is the best
    guess for them (Batson and Royer, "Noise2Self", ICML 2019; GainTuning, section 3). A network
    whose attribute ``blind_spot`` is true sees no pixel that it predicts: nothing is replaced, and
    all pixels count. With a `weight` (N, 1, Y, X) the mean is weighted.
    """
    errors, hidden = blind_spot_map(predict, noisy, share, generator)
    return _weighted_mean(errors, hidden if weight is None else hidden * weight)


def blind_spot_map(
    predict: Predict, noisy: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The squared errors of `blind_spot`, and 1 where a pixel is hidden; both (N, 1, Y, X)."""
    if getattr(predict, "blind_spot", False):
        errors = (predict(noisy).float() - noisy).square().mean(dim=1, keepdim=True)
        return errors, torch.ones_like(errors)
    rows, columns = noisy.shape[-2:]
    u = torch.rand(len(noisy), 1, rows, columns, generator=generator, device=noisy.device)
    hidden = (u < share).to(noisy.dtype)
    mean = F.avg_pool2d(F.pad(noisy, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    neighbors = (9 * mean - noisy) / 8
    predicted = predict(noisy + hidden * (neighbors - noisy)).float()
    return (predicted - noisy).square().mean(dim=1, keepdim=True), hidden


def sure(
    predict: Predict,
    noisy: Tensor,
    level: NoiseLevel,
    generator: torch.Generator,
    weight: Tensor | None = None,
) -> Tensor:
    """Stein's unbiased estimate of the mean squared error of `predict` on `noisy` (N, C, Y, X).

    In units of the noise's variance, the divergence by one random probe (Ramani, Blu and Unser,
    "Monte-Carlo SURE", TIP 2008; GainTuning, section 3). The probe is of random signs instead of
    the paper's Gaussian numbers: the estimate is as unbiased, and what a network lets through of a
    pixel's own noise adds nothing to its spread (Hutchinson, 1989). Noise that depends on the
    signal is stabilized first: the estimate is then that of the error of the stabilized pictures.
    With a `weight` (N, 1, Y, X) the mean is weighted.
    """
    errors = sure_map(predict, noisy, level, generator)
    return errors.mean() if weight is None else _weighted_mean(errors, weight)


def sure_map(
    predict: Predict,
    noisy: Tensor,
    level: NoiseLevel,
    generator: torch.Generator,
    probes: int = 1,
) -> Tensor:
    """What `sure` is the mean of, at each pixel (N, 1, Y, X); with the mean of several probes."""
    residual, divergence = sure_parts(predict, noisy, level, generator, probes)
    return residual + 2 * divergence - 1


def sure_parts(
    predict: Predict, noisy: Tensor, level: NoiseLevel, generator: torch.Generator, probes: int
) -> tuple[Tensor, Tensor]:
    """The squared residual and the divergence of `sure_map`, both (N, 1, Y, X).

    Of noise whose variance is `f` times that of `level`, `sure_map` would be
    ``residual + f * (2 * divergence - 1)``.
    """
    stable = level.stabilize(noisy)
    denoised = level.stabilize(predict(noisy).float())
    divergence = torch.zeros_like(denoised)
    for _ in range(probes):
        probe = _signs(noisy, generator)
        moved = level.stabilize(predict(level.unstabilize(stable + PROBE_STEP * probe)).float())
        divergence = divergence + probe * (moved - denoised) / (PROBE_STEP * probes)
    residual = (stable - denoised).square()
    return residual.mean(dim=1, keepdim=True), divergence.mean(dim=1, keepdim=True)


def risk_map(
    predict: Predict,
    noisy: Tensor,
    level: NoiseLevel,
    generator: torch.Generator,
    probes: int,
    neighbors: Neighbors = WHITE,
) -> Tensor:
    """An estimate of the squared error of `predict` at each pixel of `noisy` (N, 1, Y, X).

    As `sure_map`, but of the error of the pictures themselves whatever the noise: the probe is as
    strong as the noise at each pixel, which is what is left to first order of the estimate for
    Poisson-Gaussian noise of Le Montagner, Angelini and Olivo-Marin, "An unbiased risk estimator
    for image denoising in the presence of mixed Poisson-Gaussian noise", TIP 2014. And
    correlated as the noise is between `neighbors`.
    """
    variance = level.variance(noisy)
    step = PROBE_STEP * variance.sqrt()
    drawn = [_correlated(_signs(noisy, generator), neighbors) for _ in range(probes)]
    results = lanes.each(
        lambda probe: predict(noisy if probe is None else noisy + step * probe).float(),
        [None, *drawn],
    )
    denoised = next(results)
    divergence = torch.zeros_like(denoised)
    for probe, moved in zip(drawn, results, strict=True):
        divergence = divergence + probe * (moved - denoised) / (step * probes)
    errors = (noisy - denoised).square() + variance * (2 * divergence - 1)
    return errors.mean(dim=1, keepdim=True)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers of -1 and 1 in the shape of `like`, whose noise they stand for.

    That of a gray picture, which a color network is shown as one plane, repeated, is the same in
    all channels.
    """
    drawn = distinct_planes(like)
    signs = torch.rand(drawn.shape, generator=generator, device=like.device).round() * 2 - 1
    return signs.expand_as(like)


def _correlated(signs: Tensor, neighbors: Neighbors) -> Tensor:
    """`signs` (N, C, Y, X) with as much in common with their neighbors; of a variance of 1."""
    for correlation, axis in ((neighbors.across, -1), (neighbors.down, -2)):
        share = 2 * correlation / (1 + (1 - 4 * correlation**2) ** 0.5)
        signs = (signs + share * signs.roll(1, axis)) / (1 + share**2) ** 0.5
    return signs


def _weighted_mean(errors: Tensor, weight: Tensor) -> Tensor:
    """Mean of `errors` weighted by `weight`, both (N, 1, Y, X)."""
    return (errors * weight).sum() / weight.sum().clamp(min=1)


def resample(
    predict: Predict, estimate: Tensor, level: NoiseLevel, generator: torch.Generator
) -> Tensor:
    """Mean squared error of `predict` on a denoised `estimate` (N, C, Y, X) with fresh noise.

    GainTuning, eq. 7, after Vaksman et al., "LIDIA", CVPR workshops 2020.
    """
    predicted = predict(level.sample(estimate, generator)).float()
    return (predicted - estimate).square().mean()
