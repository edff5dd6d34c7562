"""Masks hide the fraction they should, in cells, at any size."""

from __future__ import annotations

import math

import pytest
import torch

from denoise_cli.masking import patch_mask
from denoise_cli.objectives import masked_l1


@pytest.mark.parametrize("size", [(64, 64), (50, 33), (7, 128)])
@pytest.mark.parametrize("patch", [1, 4, 7])
def test_cells_are_hidden_whole(size: tuple[int, int], patch: int) -> None:
    mask = patch_mask(3, size, 0.4, patch, torch.Generator().manual_seed(0))
    assert mask.shape == (3, 1, *size)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    corners = mask[..., ::patch, ::patch]
    cells = math.ceil(size[0] / patch) * math.ceil(size[1] / patch)
    hidden = (corners == 0).flatten(1).sum(dim=1)
    assert (hidden == math.ceil(0.4 * cells)).all()
    grown = corners.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    assert torch.equal(grown[..., : size[0], : size[1]], mask)


def test_masks_differ_and_follow_the_generator() -> None:
    first = patch_mask(2, (64, 64), 0.3, 4, torch.Generator().manual_seed(5))
    again = patch_mask(2, (64, 64), 0.3, 4, torch.Generator().manual_seed(5))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])


def test_masked_l1_looks_at_hidden_pixels_only() -> None:
    target = torch.zeros(1, 3, 8, 8)
    mask = torch.ones(1, 1, 8, 8)
    mask[..., :4] = 0
    prediction = torch.where(mask == 0, torch.full_like(target, 2.0), torch.full_like(target, 9.0))
    assert masked_l1(prediction, target, mask).item() == pytest.approx(2.0)
