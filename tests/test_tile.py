"""Tiles cover everything, blend without seams, and padding is undone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from denoise_cli.tile import padded, spans, tiled, windows


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 127, 128, 500])
@pytest.mark.parametrize("overlap", [0, 1, 16, 63])
def test_spans_cover_and_share_the_overlap(length: int, overlap: int) -> None:
    parts = spans(length, 64, overlap)
    assert parts[0][0] == 0
    assert parts[-1][1] == length
    for (_, stop), (start, _) in itertools.pairwise(parts):
        assert stop - start >= overlap
    total = np.zeros(length)
    for (start, stop), weight in zip(parts, windows(length, parts), strict=True):
        total[start:stop] += weight
    np.testing.assert_allclose(total, 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 65, 200), (3, 1, 500), (3, 129, 63)])
def test_blending_the_identity_is_the_identity(shape: tuple[int, int, int]) -> None:
    plane = np.random.default_rng(0).random(shape, dtype=np.float32)
    seen: list[tuple[int, int]] = []
    result = np.full(shape, np.nan, np.float32)
    tiled(
        lambda part: part.copy(),
        plane,
        tile=64,
        overlap=16,
        out=result,
        progress=lambda *n: seen.append(n),
    )
    np.testing.assert_allclose(result, plane, atol=1e-6)
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))


def test_the_outermost_pixels_of_inner_edges_carry_no_weight() -> None:
    def poisoned(part: np.ndarray) -> np.ndarray:
        part = part.copy()
        if part.shape[-1] == 64:
            part[..., :4] += 100  # the tiles' left edges are wrong
        return part

    plane = np.zeros((1, 8, 112), np.float32)
    result = np.empty_like(plane)
    tiled(poisoned, plane, tile=64, overlap=16, out=result)
    assert abs(result[..., 48:56]).max() < 1e-2


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (16, 16), (17, 31)])
def test_padding_is_mirrored_and_cropped(size: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random((3, *size), dtype=np.float32)
    shapes = []

    def identity(part: np.ndarray) -> np.ndarray:
        shapes.append(part.shape)
        return part

    result = padded(identity, plane, multiple_of=8, minimum=16)
    np.testing.assert_array_equal(result, plane)
    assert all(n % 8 == 0 and n >= 16 for n in shapes[0][1:])
