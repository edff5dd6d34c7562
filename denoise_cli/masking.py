"""Masks: 1 = visible, 0 = hidden; `mask_ratio` is the hidden fraction."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .orientation import ORIENTATIONS, turned, turned_back

HIDDEN_VALUE = -0.1  # of a hidden pixel on the scale of 0..1, in masked image training


def patch_mask(
    count: int,
    size: tuple[int, int],
    mask_ratio: float,
    patch: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hide square cells of `patch` pixels, the same number in each of `count` masks.

    The grid is rounded up and cropped, so that any size works; ``ceil(mask_ratio * cells)`` cells
    are chosen without replacement (TTT-MIM's scheme, after SimMIM, Xie et al., CVPR 2022).

    Returns
    -------
    Tensor (count, 1, Y, X), float, on the generator's device.
    """
    rows, columns = math.ceil(size[0] / patch), math.ceil(size[1] / patch)
    cells = rows * columns
    device = generator.device if generator is not None else None
    order = torch.rand(count, cells, generator=generator, device=device).argsort(dim=1)
    hidden = math.ceil(round(mask_ratio * cells, 6))
    mask = (order >= hidden).to(torch.float32).reshape(count, 1, rows, columns)
    return F.interpolate(mask, scale_factor=patch, mode="nearest")[..., : size[0], : size[1]]


def pixel_mask(
    pictures: Tensor, mask_ratio: float | Tensor, generator: torch.Generator, *, shared: bool
) -> Tensor:
    """Hide each pixel of `pictures` (N, C, Y, X) with the probability `mask_ratio`.

    Returns
    -------
    Tensor (N, C, Y, X), or (N, 1, Y, X) for a mask `shared` by the channels; like `pictures`.
    """
    count, channels, rows, columns = pictures.shape
    shape = (count, 1 if shared else channels, rows, columns)
    u = torch.rand(shape, generator=generator, device=pictures.device)
    return (u >= mask_ratio).to(pictures.dtype)


def draw_ratios(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """A mask ratio for each of `count` pictures: (N, 1, 1, 1)."""
    u = torch.rand(count, 1, 1, 1, generator=generator, device=generator.device)
    return low + (high - low) * u


def hide_pixels(pictures: Tensor, mask_ratio: float | Tensor, generator: torch.Generator) -> Tensor:
    """`pictures` (N, C, Y, X) with pixels hidden, as masked image training shows them."""
    visible = pixel_mask(pictures, mask_ratio, generator, shared=True)
    return torch.where(visible > 0, pictures, HIDDEN_VALUE)


def masked_passes(
    network: nn.Module,
    pictures: Tensor,
    mask_ratio: float,
    passes: int,
    generator: torch.Generator,
) -> Tensor:
    """The mean of what a network trained on masked `pictures` (N, C, Y, X) makes of them.

    Each pass has the picture in another orientation and a random mask. A network with attention
    masks has tokens hidden from its attention and sees all pixels, as in masked image training; of
    any other pixels are hidden, each in the same number of passes as far as that is possible: with
    masks drawn apart, some would be hidden in all.
    """
    draw = getattr(network, "draw_visible", None)
    u = torch.rand(pictures[:, :1].shape, generator=generator, device=pictures.device)
    total = torch.zeros_like(pictures, dtype=torch.float32)
    for index in range(passes):
        if draw is not None:
            seen = turned(pictures, index % ORIENTATIONS)
            denoised = network(seen, draw(seen, mask_ratio, generator))
        else:
            visible = (u + index / passes) % 1 >= mask_ratio
            shown = torch.where(visible, pictures, HIDDEN_VALUE)
            denoised = network(turned(shown, index % ORIENTATIONS))
        total += turned_back(denoised.float(), index % ORIENTATIONS)
    return total / passes
