"""Is what a network leaves in flat places noise, or texture? Told by how it takes more of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .flat import FlatPlaces, detrend, laid, windows
from .objectives import Predict
from .transforms import cosines, opponent

WINDOW = 32
ROUNDS, STEP = 3, 0.3
NOTHING = 1e-9  # of energy
LEAST, MOST = 0.05, 20.0  # of what a round may change the energy of a frequency by
# Of what flat places hold, the share that must be noise: else it is texture, which a network that
# is adapted to it takes away. Measured on training photos under noise that the network knows half
# of.
NOISE = 0.3
# Less of a variance than that must be taken away for it to be asked whether it is that of noise.
TAKEN = 0.3


def holds_noise(
    predict: Predict, noisy: Tensor, denoised: Tensor, generator: torch.Generator
) -> bool:
    """Whether it is noise that flat places of `noisy` (K, C, Y, X) hold, by `share_of_noise`."""
    return share_of_noise(predict, noisy, denoised, generator) >= NOISE


def passes_for_noise(
    predict: Predict, noisy: Tensor, denoised: Tensor, variance: float, generator: torch.Generator
) -> bool:
    """Whether texture of `noisy` (K, C, Y, X) passed for noise of this `variance`.

    As where dark places are flat and bright ones textured: noise then seems to grow with the light
    by far. The network took little of it away, and flat places hold no noise that it leaves.
    """
    removed = float((noisy - denoised).square().mean())
    return removed < TAKEN * variance and not holds_noise(predict, noisy, denoised, generator)


@torch.no_grad()
def share_of_noise(
    predict: Predict, noisy: Tensor, denoised: Tensor, generator: torch.Generator
) -> float:
    """Of the energy that flat places of `noisy` (K, C, Y, X) hold, the share that is noise.

    What they hold is put down all over the picture, and each frequency of it weakened until the
    network takes as much of it away as it did of the picture itself (`denoised`): noise that a
    network takes away where it is added, but has left, was none. Where it takes next to nothing of
    it away, all of it may be noise.
    """
    places = FlatPlaces.of(noisy, denoised, WINDOW)
    pieces = _spectra(places.pieces(places.samples, noisy, generator))
    wanted = _power(places.removed[places.donors])
    first = probe = laid(_pictures(pieces), noisy)
    gain = torch.ones_like(wanted)
    for _ in range(ROUNDS):
        answer = probe - (predict(noisy + STEP * probe).float() - denoised) / STEP
        taken = _power(detrend(windows(answer, WINDOW)[places.donors]))
        change = (wanted + NOTHING) / (taken + NOTHING)
        gain = (gain * change.clamp(LEAST, MOST)).clamp(max=1)
        probe = laid(_pictures(pieces * gain.sqrt()), noisy)
    return float(probe.square().mean() / first.square().mean().clamp(min=1e-12))


def _spectra(samples: Tensor) -> Tensor:
    """The cosine transforms (N, C, W, W) of windows, of brightness and opponent colors."""
    transform, colors = _transforms(samples)
    return torch.einsum("oc,kcij->koij", colors, transform @ samples @ transform.T)


def _pictures(spectra: Tensor) -> Tensor:
    """The windows of which these are the `_spectra`."""
    transform, colors = _transforms(spectra)
    return transform.T @ torch.einsum("oc,koij->kcij", colors, spectra) @ transform


def _transforms(like: Tensor) -> tuple[Tensor, Tensor]:
    """Of the samples along a side, and of the channels."""
    return cosines(like.shape[-1]).to(like), opponent(like.shape[1]).to(like)


def _power(samples: Tensor) -> Tensor:
    """The mean energy (C, W, W) of each frequency and its neighbors."""
    power = _spectra(samples).square().mean(dim=0)
    return F.avg_pool2d(F.pad(power[None], (1, 1, 1, 1), mode="reflect"), 3, 1)[0]
