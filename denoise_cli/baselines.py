"""Classical denoisers that need no training: what a method of ours has to beat.

All take the noise level that scikit-image estimates from the picture itself: from the finest
diagonal wavelet coefficients (Donoho and Johnstone, "Ideal spatial adaptation by wavelet
shrinkage", Biometrika 1994), the mean over the channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from .denoiser import Result
from .errors import UsageError
from .image import View, default_axes, to_planes
from .normalize import Scale
from .watch import Progress

# Below this there is nothing to take away, and divisions by the level go wrong.
LEAST_SIGMA = 1e-5
LEAST_SIDE = 8  # pixels; smaller pictures come back as they are


def nlm(picture: np.ndarray) -> np.ndarray:
    """Non-local means (Buades, Coll and Morel, "A non-local algorithm for image denoising", 2005).

    The fast variant of Darbon et al. (2008) with the level told, patches of 5 pixels within 6
    pixels around, and h = 0.6 sigma: the setting of scikit-image's example for it.

    Parameters
    ----------
    picture : ndarray
        (Y, X, C) on about 0..1.

    Returns
    -------
    ndarray
        The denoised picture, likewise.
    """
    from skimage.restoration import denoise_nl_means

    sigma = _sigma(picture)
    if sigma < LEAST_SIGMA:
        return picture
    denoised: np.ndarray = denoise_nl_means(
        picture,
        h=0.6 * sigma,
        sigma=sigma,
        patch_size=5,
        patch_distance=6,
        fast_mode=True,
        channel_axis=-1,
    )
    return denoised.reshape(picture.shape)  # a sole channel is squeezed away


def wavelet(picture: np.ndarray) -> np.ndarray:
    """Soft thresholds for wavelets (Chang, Yu and Vetterli, "BayesShrink", IEEE TIP 2000).

    In YCbCr for color, which is the setting of scikit-image's example. The level is that of each
    channel, estimated in the same way there. Takes and returns what `nlm` does.
    """
    from skimage.restoration import denoise_wavelet

    if _sigma(picture) < LEAST_SIGMA:
        return picture
    denoised: np.ndarray = denoise_wavelet(
        picture,
        method="BayesShrink",
        mode="soft",
        rescale_sigma=True,
        convert2ycbcr=picture.shape[-1] == 3,
        channel_axis=-1,
    )
    return denoised


def bm3d(picture: np.ndarray) -> np.ndarray:
    """Block matching and 3-D filtering (Dabov et al., IEEE TIP 2007) by its authors' package.

    With that package's defaults (Mäkinen, Azzari and Foi, IEEE TIP 2020), for white noise of the
    estimated level. Takes and returns what `nlm` does.
    """
    from bm3d import bm3d as gray, bm3d_rgb

    sigma = _sigma(picture)
    if sigma < LEAST_SIGMA:
        return picture
    color = picture.shape[-1] == 3
    denoised: np.ndarray = bm3d_rgb(picture, sigma) if color else gray(picture[..., 0], sigma)
    return denoised.reshape(picture.shape)


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nlm": nlm,
    "wavelet": wavelet,
    "bm3d": bm3d,
}


class Baseline:
    """One of `BASELINES`, called as a `Denoiser` is.

    Parameters
    ----------
    method : str
        Its name.

    Raises
    ------
    UsageError
        If it is unknown, or its package is not installed.
    """

    weights: str | None = None

    def __init__(self, method: str) -> None:
        if method not in BASELINES:
            raise UsageError(f"unknown baseline {method!r}; known are {', '.join(BASELINES)}")
        if method == "bm3d" and find_spec("bm3d") is None:
            raise UsageError(
                'bm3d is not installed: pip install "denoise-cli[bm3d]", or leave it out'
            )
        self.method = method

    def run(
        self,
        samples: np.ndarray,
        axes: str | None = None,
        *,
        view: View | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Denoise `samples` plane by plane; see `Denoiser.run`."""
        started = time.perf_counter()
        seen, letters = samples, axes or default_axes(samples)
        if view is not None:
            seen, letters = view.forward(samples)
        planes, back = to_planes(seen, letters)
        scale = Scale.of(planes)
        denoised = np.empty(planes.shape, np.float32)
        for index, plane in enumerate(planes):
            if progress:
                progress("predict", index, len(planes))
            # Double precision: what the packages are tested in.
            picture = np.moveaxis(scale.forward(plane).astype(np.float64), 0, -1)
            denoised[index] = np.moveaxis(BASELINES[self.method](picture), -1, 0)
        result = back(scale.inverse(denoised, seen.dtype))
        return Result(
            samples=result if view is None else view.inverse(samples, result),
            steps=0,
            kept_step=0,
            gain_db=None,
            reason="nothing to adapt",
            warning=None,
            seconds=time.perf_counter() - started,
            seconds_adapt=0.0,
            adaptations=0,
            curve=[],
        )


def _sigma(picture: np.ndarray) -> float:
    """The noise level of a picture (Y, X, C), the mean over its channels."""
    from skimage.restoration import estimate_sigma

    if min(picture.shape[:2]) < LEAST_SIDE:
        return 0.0
    levels = estimate_sigma(picture, channel_axis=-1)
    return float(np.mean(levels))
