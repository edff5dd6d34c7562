"""Collaborative filtering: patches that are alike are denoised together.

A network sees a place and what is around it; a texture that comes again is seen anew each time.
Here patches that are alike in what the network made of the picture, the pilot, are stacked, and
what all have in common is told from the noise: each coefficient Y of a stack of the noisy picture
is weighted with P^2 / (P^2 + v), where P is that of the pilot and v the variance of the noise.

Source: the second (Wiener) step of BM3D, Dabov et al., TIP 2007, with the pilot from a network as
in Cruz et al., "Nonlocality-reinforced convolutional neural networks for image denoising", SPL
2018. Differs from both: all channels are filtered, noise may change with the light, and how much
of the result is taken is decided place by place.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from . import details, lanes
from .noise_level import NoiseLevel
from .transforms import cosines, is_gray, opponent
from .windows import square_mean

# Chosen on training photos: the side of a patch, how far apart patches are that others are sought
# for, how far away they are sought, and how many are stacked.
PATCH, STRIDE, REACH, STACK = 6, 3, 16, 16
STRIP = 16  # rows of stacks at a time, so that memory does not grow with the picture
KAISER = 2.0  # of the window that patches are put together again with, as in BM3D
SMALLEST_SIDE = 2 * PATCH
# Where the stacks change the picture by no more than this share of the variance of the noise, in a
# window of this side, they change it by chance: as a shrinkage of James and Stein's kind.
BY_CHANCE, WINDOW = 0.004, 33


@torch.no_grad()
def refine(noisy: Tensor, denoised: Tensor, level: NoiseLevel) -> Tensor:
    """`denoised` (N, C, Y, X) drawn towards what stacks of patches make of `noisy`.

    The noise of `noisy` is independent between pixels, and `level` is known on the same scale; it
    may be stronger in some places, by what the pilot took away there. Of a picture with a side
    below `SMALLEST_SIDE` nothing is made.
    """
    if min(noisy.shape[-2:]) < SMALLEST_SIDE:
        return denoised
    # Autocast would take bfloat16 for the transforms: too coarse where there is little noise.
    with torch.autocast(noisy.device.type, enabled=False):
        noisy, denoised = noisy.float(), denoised.float()
        variance = level.variance(denoised)
        variance = variance * details.stronger(noisy, denoised, variance)
        pictures = zip(noisy, denoised, variance, strict=True)
        off = torch.stack([_wiener(*picture) for picture in pictures]) - denoised
        change = (off.square() / variance).mean(dim=1, keepdim=True)
        change = square_mean(change, WINDOW).clamp(min=1e-12)
        return denoised + (1 - BY_CHANCE / change).clamp(min=0) * off


def _wiener(noisy: Tensor, pilot: Tensor, variance: Tensor) -> Tensor:
    """The Wiener filter of stacks; pictures and the variance of their noise (C, Y, X)."""
    channels, rows, columns = noisy.shape
    if is_gray(noisy[None]):
        noisy, pilot = noisy[:1], pilot.mean(dim=0, keepdim=True)
    to_end = (0, -(columns - PATCH) % STRIDE, 0, -(rows - PATCH) % STRIDE)
    padded = F.pad(torch.stack([noisy, pilot]), to_end, mode="replicate")
    variance = variance.mean(dim=0, keepdim=True)[None]  # over the colors
    variance = F.pad(variance, to_end, mode="replicate").flatten()
    colors = opponent(len(noisy)).to(noisy)
    both = torch.einsum("ij,pjyx->piyx", colors, padded)
    height, width = both.shape[-2:]
    offsets = torch.arange(PATCH, device=noisy.device)
    inside = (offsets[:, None] * width + offsets).flatten()
    across = torch.kron(cosines(PATCH), cosines(PATCH)).to(noisy)
    along = cosines(STACK).to(noisy)
    window = torch.kaiser_window(PATCH, periodic=False, beta=KAISER)
    window = torch.outer(window, window).flatten().to(noisy)
    total, weights = noisy.new_zeros(2, len(noisy), height * width)
    find = _Stacks(both[1, 0])

    def filtered(tops: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        begin = find(tops)
        places = (begin[..., None] + inside).flatten()
        noise = variance[begin].mean(dim=1)[:, None, None]
        results = []
        for picture in both.flatten(-2).unbind(1):
            patches = picture.index_select(1, places).view(2, -1, STACK, PATCH * PATCH)
            seen, known = torch.einsum("kl,inlm->inkm", along, patches @ across.T)
            energy = known.square()
            gain = energy / (energy + noise)
            back = torch.einsum("kl,nkm->nlm", along, seen * gain) @ across
            left = noise * gain.square().sum(dim=(1, 2), keepdim=True).clamp(min=1)
            weight = (window / left).expand_as(back)
            results.append(((back * weight).flatten(), weight.flatten()))
        return places, results

    for places, results in lanes.each(filtered, find.tops.split(STRIP)):
        for channel, (values, weight) in enumerate(results):
            total[channel].index_add_(0, places, values)
            weights[channel].index_add_(0, places, weight)
    result = (total / weights).view(-1, height, width)[:, :rows, :columns]
    return torch.einsum("ij,iyx->jyx", colors, result).expand(channels, -1, -1)


class _Stacks:
    """Finds patches that are alike in `guide` (Y, X).

    Attributes
    ----------
    tops : Tensor (K)
        The rows of the first patches of all stacks.
    """

    def __init__(self, guide: Tensor) -> None:
        self._guide = guide
        height, width = guide.shape
        low, high = guide.aminmax()
        outside = float(high + 10 * (high - low) + 1)  # unlike anything inside
        self._wide = F.pad(guide, (REACH,) * 4, value=outside)
        self.tops = torch.arange(0, height - PATCH + 1, STRIDE, device=guide.device)
        self._lefts = torch.arange(0, width - PATCH + 1, STRIDE, device=guide.device)
        reach = torch.arange(-REACH, REACH + 1, device=guide.device)
        self._shifts = (reach[:, None] * width + reach).flatten()

    def __call__(self, some: Tensor) -> Tensor:
        """Where patches (stacks, STACK) begin in the flattened guide, for `some` of the tops."""
        width = self._guide.shape[1]
        top, bottom = int(some[0]), int(some[-1]) + PATCH
        own = self._guide[top:bottom, None]
        distances = []
        for down in range(2 * REACH + 1):
            # (rows, shifts, X)
            beside = self._wide[top + down : bottom + down].unfold(1, width, 1)
            distances.append(_patch_sums(_patch_sums((beside - own).square(), 0), -1))
        # (tops, lefts, all shifts)
        every = torch.stack(distances, dim=1).flatten(1, 2).movedim(1, -1)
        every[..., len(self._shifts) // 2] = -1.0  # a patch itself, even among many that equal it
        best = every.flatten(0, 1).topk(STACK, largest=False, sorted=False).indices
        begin = (some[:, None] * width + self._lefts).flatten()
        return begin[:, None] + self._shifts[best]


def _patch_sums(values: Tensor, dim: int) -> Tensor:
    """Sums over the patches along `dim`."""
    return reduce(torch.add, values.unfold(dim, PATCH, STRIDE).unbind(-1))
