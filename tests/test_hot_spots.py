"""Hot pixels of a color sensor, which demosaicing has spread, are filled in."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from scipy.ndimage import convolve
from test_stripes import quick

from denoise_cli import Denoiser
from denoise_cli.metrics import psnr

SAID = "hot pixels filled in"
GREEN = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
OTHERS = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4


def demosaiced(share: float, sigma: float = 6, side: int = 256) -> list[np.ndarray]:
    """A clean picture (Y, X, 3) on 0..1, and as of a sensor with hot pixels, without and with."""
    clean = skimage.data.astronaut()[:side, 100 : 100 + side].astype(np.float32) / 255
    draws = np.random.default_rng(0)
    filters = np.tile([[0, 1], [1, 2]], (side // 2, side // 2))
    sensor = np.take_along_axis(clean, filters[..., None], axis=2)[..., 0]
    sensor = sensor + draws.normal(0, sigma / 255, sensor.shape)
    hot = draws.random(sensor.shape) < share
    found = [clean]
    for samples in (sensor, np.where(hot, sensor + draws.uniform(0.2, 1, sensor.shape), sensor)):
        planes = [
            convolve(np.where(filters == k, samples, 0), GREEN if k == 1 else OTHERS, mode="mirror")
            for k in range(3)
        ]
        found.append(np.stack(planes, axis=-1).clip(0, 1).astype(np.float32))
    return found


@pytest.mark.parametrize("share", [0.002, 0.005])
def test_they_are_filled_in(share: float) -> None:
    clean, without, hot = demosaiced(share)
    result, plain = quick().run(hot), Denoiser("none")
    assert SAID in result.reason
    best = psnr(clean, plain(without))
    assert best - psnr(clean, result.samples) < 0.75 * (best - psnr(clean, plain(hot)))


def test_stacks_and_tiles() -> None:
    clean, _, hot = demosaiced(0.003)
    counts = (np.stack([hot, hot]) * 255).round().astype(np.uint8)
    result = Denoiser("auto", options={"budget": "fast"}, tile=160, overlap=32).run(counts, "ZYXS")
    assert SAID in result.reason
    assert psnr(clean, result.samples[1] / 255) > psnr(clean, Denoiser("none")(hot)) + 0.2


@pytest.mark.parametrize("share", [0.003, 0.03])
def test_impulses_that_were_not_demosaiced_are_none(share: float) -> None:
    clean = demosaiced(0)[0]
    draws = np.random.default_rng(1)
    impulses = np.where(draws.random(clean.shape) < share, draws.integers(0, 2, clean.shape), clean)
    assert SAID not in quick().run(impulses.astype(np.float32)).reason


def test_pictures_without_them_have_none() -> None:
    clean, without, _ = demosaiced(0)
    for picture in (clean, without, np.stack([without[..., 1]] * 3, axis=-1)):
        assert SAID not in quick().run(picture).reason
    for name in ("coffee", "chelsea", "rocket", "hubble_deep_field", "retina"):
        color = getattr(skimage.data, name)()[:256, :256, :3].astype(np.float32) / 255
        assert SAID not in quick().run(color).reason
