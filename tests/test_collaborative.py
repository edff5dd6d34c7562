"""Patches that are alike are denoised together, where the noise is such that they can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise_cli import Denoiser, collaborative, denoise, noise, noise_kind
from denoise_cli.noise_level import NoiseLevel
from denoise_cli.stripes import has_stripes
from denoise_cli.windows import window_mean

SIGMA = 20 / 255
WHITE = NoiseLevel(read=SIGMA**2)


def bricks(rows: int = 120, columns: int = 150) -> Tensor:
    """A picture (1, 3, rows, columns) of one thing that comes again and again."""
    y, x = np.mgrid[:rows, :columns]
    wall = 0.35 + 0.3 * ((y % 12 > 1) & ((x + y // 12 * 9) % 18 > 1))
    colors = torch.tensor([1.0, 0.8, 0.7], dtype=torch.float64)[:, None, None]
    return (torch.from_numpy(wall) * colors)[None].float()


def sample(spec: str, clean: Tensor) -> Tensor:
    return noise.parse(spec).sample(clean, torch.Generator().manual_seed(0))


def blurred(pictures: Tensor) -> Tensor:
    return window_mean(pictures, 3, 3)


def error(found: Tensor, clean: Tensor) -> float:
    return float((found - clean).square().mean() ** 0.5)


@pytest.mark.parametrize("shape", [(120, 150), (61, 47), (12, 90)])
def test_what_comes_again_is_seen_better(shape: tuple[int, int]) -> None:
    clean = bricks(*shape)
    noisy = sample("gaussian:20", clean)
    pilot = 0.5 * (clean + blurred(noisy))  # a denoiser that is far from perfect
    found = collaborative.refine(noisy, pilot, WHITE)
    assert found.shape == noisy.shape
    assert error(found, clean) < 0.8 * error(pilot, clean)


def test_photon_noise_is_known_to_be_weaker_in_the_dark() -> None:
    clean = bricks()
    clean[..., 75:] *= 0.1
    noisy = sample("poisson:30", clean)
    pilot = 0.5 * (clean + blurred(noisy))
    found = collaborative.refine(noisy, pilot, NoiseLevel(shot=1 / 30))
    as_if_white = collaborative.refine(noisy, pilot, NoiseLevel(read=float(clean.mean()) / 30))
    dark = np.s_[..., 75:]
    assert error(found, clean) < 0.85 * error(pilot, clean)
    assert error(found[dark], clean[dark]) < 0.9 * error(as_if_white[dark], clean[dark])


def test_where_the_stacks_say_next_to_nothing_new_the_picture_stays() -> None:
    clean = torch.linspace(0.3, 0.6, 128).expand(1, 3, 96, 128)
    found = collaborative.refine(sample("gaussian:20", clean), clean, WHITE)
    assert error(found, clean) < 0.05 * SIGMA
    assert (found == clean).float().mean() > 0.5


def test_a_gray_picture_equals_its_three_channels() -> None:
    clean = bricks()[:, :1]
    noisy = sample("gaussian:20", clean)
    pilot = 0.5 * (clean + blurred(noisy))
    gray = collaborative.refine(noisy, pilot, WHITE)
    three = collaborative.refine(*(one.expand(-1, 3, -1, -1) for one in (noisy, pilot)), WHITE)
    assert error(three, gray.expand(-1, 3, -1, -1)) < 1e-5


def test_flat_and_clipped_pictures_and_those_too_small_for_patches() -> None:
    flat = torch.zeros(1, 3, 64, 64)
    flat[..., 40:] = 1.0
    assert error(collaborative.refine(flat, flat, NoiseLevel()), flat) < 1e-6
    small = bricks(11, 90)
    assert torch.equal(collaborative.refine(small + 0.1, small, WHITE), small)


def test_a_part_of_a_picture_comes_out_as_in_the_whole() -> None:
    # Pictures are denoised in tiles: far from their edges nothing may differ.
    clean = bricks(200, 200)
    noisy = sample("gaussian:20", clean)
    pilot = 0.5 * (clean + blurred(noisy))
    whole = collaborative.refine(noisy, pilot, WHITE)
    tile = np.s_[..., : 200 - collaborative.STRIDE * 10, :]
    part = collaborative.refine(noisy[tile], pilot[tile], WHITE)
    assert error(part[..., :120, :], whole[..., :120, :]) < 1e-4


@pytest.mark.parametrize("quality", [70, 90])
def test_noise_that_went_through_a_jpeg_lacks_high_frequencies(quality: int) -> None:
    clean = torch.linspace(0.2, 0.8, 256).expand(1, 3, 256, 256)
    noisy = sample(f"gaussian:15+jpeg:{quality}", clean)
    assert not noise_kind.has_high_frequencies(noisy, clean, NoiseLevel(read=(15 / 255) ** 2))


@pytest.mark.parametrize(("strength", "stands_out"), [(0.0, False), (0.3, True)])
def test_the_pattern_of_a_mosaic_stands_out_of_white_noise(
    strength: float, stands_out: bool
) -> None:
    clean = torch.linspace(0.2, 0.8, 256).expand(1, 3, 256, 256)
    noisy = sample("gaussian:15", clean)
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    noisy = noisy + strength * 15 / 255 * (1 - 2.0 * ((rows + columns) % 2))
    level = NoiseLevel(read=(15 / 255) ** 2)
    assert noise_kind.has_pattern(noisy, clean, level) == stands_out
    assert noise_kind.is_white(noisy, clean, level) != stands_out


@pytest.mark.parametrize("is_across", [False, True])
@pytest.mark.parametrize("side", [64, 256])
def test_stripes_are_noise_that_patches_share(is_across: bool, side: int) -> None:
    clean = torch.linspace(0.2, 0.8, side).expand(1, 3, side, side)
    white = sample("gaussian:20", clean)
    shape = (1, 1, 1, side) if is_across else (1, 1, side, 1)
    stripes = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 12 / 255
    assert not has_stripes(white, clean)
    assert has_stripes(white + stripes, clean)
    # Half of them left.
    assert has_stripes(white + stripes, clean + stripes / 2)


def test_bricks_are_no_stripes() -> None:
    noisy = sample("gaussian:10", bricks(240, 300))
    denoised = denoise(noisy[0].permute(1, 2, 0).numpy(), "none")
    assert not has_stripes(noisy, torch.from_numpy(denoised).permute(2, 0, 1)[None])


def test_auto_takes_what_comes_again_from_all_of_the_picture() -> None:
    # By the network alone (`fast`) as against the network and the stacks.
    clean = bricks(144, 192)[0].permute(1, 2, 0).numpy()
    noisy = sample("gaussian:30", bricks(144, 192))[0].permute(1, 2, 0).numpy()
    errors = {
        budget: float(
            np.square(Denoiser("auto", steps=0, options={"budget": budget})(noisy) - clean).mean()
        )
        for budget in ("fast", "balanced")
    }
    assert errors["balanced"] < 0.8 * errors["fast"]
