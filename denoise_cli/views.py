"""How a picture is shown to a network: as it is, of less contrast, or with its noise made even."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import objectives
from .neighbors import WHITE, Neighbors
from .noise_level import NoiseLevel

SCALES = (0.7, 0.5)
ENDS = (0.001, 0.999)  # shares of the stabilized samples that are darker than 0 and than 1
CELL, PROBES = 8, 6
# A view is chosen for winning by as many standard errors. With 2, what was chosen at noise of the
# training cost nothing on training photos; with 1, some cost 0.1 dB.
SURENESS = 2.0
SMALLEST_ERROR = 0.05  # of the noise's variance: below, estimates of errors are not told apart


@dataclass(frozen=True)
class View:
    """A picture as a network is shown it; by default as it is.

    Attributes
    ----------
    level : NoiseLevel or None
        That of the noise, if it is stabilized (the generalized Anscombe transform).
    low, high : float
        What is shown as 0 and 1.
    """

    level: NoiseLevel | None = None
    low: float = 0.0
    high: float = 1.0

    def forward(self, pictures: Tensor) -> Tensor:
        """As the network sees `pictures` (N, C, Y, X)."""
        stable = pictures if self.level is None else self.level.stabilize(pictures)
        return (stable - self.low) / (self.high - self.low)

    def inverse(self, denoised: Tensor) -> Tensor:
        """Back, without bias if `denoised` is."""
        stable = denoised * (self.high - self.low) + self.low
        return stable if self.level is None else self.level.unstabilize_mean(stable)

    def shown(self, level: NoiseLevel) -> NoiseLevel:
        """The noise that the network sees of noise of `level`."""
        if self.level is not None:
            return NoiseLevel(read=(self.high - self.low) ** -2)
        return level.standardized((self.low,), (self.high - self.low,))

    def __str__(self) -> str:
        if self.level is not None:
            return "stabilized"
        return f"scaled by {1 / (self.high - self.low):.2g}"


class Shown(nn.Module):
    """A network that is shown another view, from pictures to denoised pictures."""

    to_save = " of this picture; -O view=false makes one"

    def __init__(self, network: objectives.Predict, view: View) -> None:
        super().__init__()
        self.network, self.view = network, view

    def forward(self, pictures: Tensor) -> Tensor:
        denoised: Tensor = self.network(self.view.forward(pictures)).float()
        return self.view.inverse(denoised)


def candidates(noisy: Tensor, level: NoiseLevel) -> list[View]:
    """The views that `noisy` (N, C, Y, X) with noise of `level` could be shown in.

    White noise beyond that of the training comes within it by a smaller scale, which is the same
    picture of less contrast; what bias-free networks (Mohan et al., ICLR 2020) are as good at by
    construction. Signal-dependent noise becomes even, and uses the range from 0 to 1.
    """
    if level.shot == 0:
        return [View(high=1 / scale) for scale in SCALES]
    stable = level.stabilize(noisy).flatten()
    # No more than some million samples can be sorted at once.
    stable = stable[:: 1 + stable.numel() // 1_000_000]
    low, high = torch.quantile(stable, stable.new_tensor(ENDS)).tolist()
    if not high > low:
        return []
    # Noise of more than a quarter of the range is beyond what networks are trained on.
    return [View(level, low, max(high, low + 4.0))]


class Errors:
    """Estimates the errors of networks on `noisy` (N, C, Y, X) by `objectives.risk_map`.

    Called with a network, it gives the means of cells (K), weighted by `weight` (N, 1, Y, X); the
    random numbers are the same each time.
    """

    def __init__(
        self,
        noisy: Tensor,
        level: NoiseLevel,
        weight: Tensor,
        generator: torch.Generator,
        probes: int = PROBES,
        neighbors: Neighbors = WHITE,
    ) -> None:
        self.noisy, self.level, self.weight, self.probes = noisy, level, weight, probes
        self.neighbors = neighbors
        self.seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))

    @torch.no_grad()
    def __call__(self, predict: objectives.Predict) -> Tensor:
        same = torch.Generator(self.noisy.device).manual_seed(self.seed)
        # One by one: no more memory than for one.
        risks = [
            objectives.risk_map(predict, noisy, self.level, same, self.probes, self.neighbors)
            for noisy in self.noisy.split(1)
        ]
        return F.avg_pool2d(torch.cat(risks) * self.weight, CELL).flatten()


def best(
    network: objectives.Predict,
    noisy: Tensor,
    level: NoiseLevel,
    weight: Tensor,
    generator: torch.Generator,
    sureness: float = SURENESS,
    neighbors: Neighbors = WHITE,
) -> tuple[View | None, float]:
    """The view in which `network` does best on `noisy` (N, C, Y, X), and the ratio of errors.

    By the estimate `objectives.risk_map`, weighted by `weight` (N, 1, Y, X), for noise that has as
    much in common with its `neighbors`. None, and a ratio of 1, if no view is better than the
    picture as it is by so many standard errors of the estimate.
    """
    errors = Errors(noisy, level, weight, generator, neighbors=neighbors)
    plain, found, most, ratio = errors(network), None, 0.0, 1.0
    for view in candidates(noisy, level):
        shown = errors(Shown(network, view))
        fall = sure_fall(plain - shown, sureness)
        if fall > most:
            floor = SMALLEST_ERROR * float((level.variance(noisy) * weight).mean())
            ratio = max(float(shown.mean()), floor) / max(float(plain.mean()), floor)
            found, most = view, fall
    return found, ratio


def sure_fall(falls: Tensor, sureness: float = 1.0) -> float:
    """By how much errors fall at least: so many standard errors below the mean of `falls` (..., K).

    Of several rows of falls, the one of the least.
    """
    count = falls.shape[-1]
    if count < 2 or not bool(falls.isfinite().all()):
        return -math.inf
    return float((falls.mean(dim=-1) - sureness * falls.std(dim=-1) / count**0.5).min())
