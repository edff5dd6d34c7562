"""Denoise images with networks that adapt to each image.

>>> import denoise_cli
>>> clean = denoise_cli.denoise(noisy)  # array in, array out: same shape and dtype
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .denoiser import Denoiser, denoise
    from .image import Image
    from .io import read, write

__version__ = "0.1.0"

__all__ = ["Denoiser", "Image", "__version__", "denoise", "read", "write"]

_HOMES = {
    "Denoiser": "denoiser",
    "Image": "image",
    "denoise": "denoiser",
    "read": "io",
    "write": "io",
}


def __getattr__(name: str) -> object:
    # The names are looked up on first use: `import denoise_cli` alone must not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
