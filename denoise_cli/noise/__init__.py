"""Noise models: what `--noise SPEC` means, for training and for evaluation.

A model turns clean pictures (N, C, Y, X) on 0..1 into noisy ones. A parameter given as a range
``LOW-HIGH`` is drawn anew for each picture. Nothing is clipped or rounded unless a model says so.
"""

from __future__ import annotations

import math
from dataclasses import fields
from itertools import chain, repeat
from typing import Any

from ..errors import UsageError
from .base import Noise, Range, sample_and_mean
from .camera import Camera
from .combined import Chain, Mix
from .correlated import Correlated, Stripes
from .independent import Gaussian, Poisson, PoissonGaussian, SaltPepper, Speckle
from .processing import JPEG, Bilateral, Clip, Defocus

__all__ = [
    "MEASURED",
    "NOISES",
    "Gaussian",
    "Noise",
    "Poisson",
    "PoissonGaussian",
    "Range",
    "parse",
    "sample_and_mean",
    "softens",
    "written",
]

MEASURED = "measured:"

# name -> (its class, whose parameters are ranges, how the arguments are written)
NOISES: dict[str, tuple[Any, str]] = {
    "gaussian": (Gaussian, "SIGMA"),
    "poisson": (Poisson, "PEAK"),
    "poisson-gaussian": (PoissonGaussian, "SHOT,READ"),
    "speckle": (Speckle, "VARIANCE"),
    "salt-pepper": (SaltPepper, "AMOUNT[,SHARED]"),
    "correlated": (Correlated, "SIGMA[,WIDTH[,SHARED]]"),
    "stripes": (Stripes, "SIGMA[,SHARED]"),
    "jpeg": (JPEG, "QUALITY"),
    "bilateral": (Bilateral, "STRENGTH[,WIDTH[,KEPT]]"),
    "clip": (Clip, ""),
    "defocus": (Defocus, "SIGMA"),
    "camera": (Camera, "[SHOT[,SMOOTHED[,EDGES]]]"),
}


def written(name: str) -> str:
    """How the noise `name` of `NOISES` is written, as in ``camera[:SHOT[,SMOOTHED[,EDGES]]]``."""
    arguments = NOISES[name][1]
    if arguments.startswith("["):
        return f"{name}[:{arguments[1:]}"
    return f"{name}:{arguments}" if arguments else name


def softens(noise: Noise) -> bool:
    """Whether the picture itself is changed, by `noise` or a model that it is made of."""
    parts = noise.models if isinstance(noise, Chain | Mix) else ()
    return isinstance(noise, Defocus) or any(map(softens, parts))


def parse(spec: str) -> Noise:
    """The noise model a specification names.

    ``gaussian:25``, ``gaussian:0-55``, ``poisson:5-50``, ``poisson-gaussian:0.01,0.0004``,
    ``correlated:5-40,0.5-1.5``, ``camera``; ``A+B`` applies one after the other, and
    ``mix:A*WEIGHT/B*WEIGHT`` draws one for each picture. ``measured:PATH`` is noise measured from
    frames, see `denoise_cli.measured.measure`; it stands alone.

    Raises
    ------
    UsageError
        If a name is unknown or an argument is no number or range.
    """
    if spec.startswith(MEASURED):
        from ..measured import measure

        return measure(spec.removeprefix(MEASURED))
    if spec.startswith("mix:"):
        parts = [part.rpartition("*") for part in spec[4:].split("/")]
        models = tuple(parse(name if star else weight) for name, star, weight in parts)
        weights = tuple(_number(w, spec) if star else 1.0 for _, star, w in parts)
        return Mix(models, weights)
    if "+" in spec:
        return Chain(tuple(parse(part) for part in spec.split("+")))
    name, _, text = spec.partition(":")
    if name not in NOISES:
        known = ", ".join(map(written, NOISES))
        raise UsageError(
            f"unknown noise {spec!r}; known are {known}, A+B, mix:A*W/B*W and measured:PATH"
        )
    model, _ = NOISES[name]
    # A parameter whose default spans decades is drawn in the logarithm.
    spans = [getattr(field.default, "logarithmic", False) for field in fields(model)]
    texts = text.split(",") if text else []
    pairs = zip(texts, chain(spans, repeat(False)), strict=False)
    ranges = [_range(text, spec, span) for text, span in pairs]
    try:
        return model(*ranges)
    except TypeError:
        raise UsageError(f"noise {spec!r} is not written {written(name)}") from None


def _number(text: str, spec: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"noise {spec!r}: {text!r} is no number of 0 or more")
    return value


def _range(text: str, spec: str, logarithmic: bool) -> Range:
    low, dash, high = text.partition("-")
    if text.count("-") > 1 or "e-" in text:  # 1e-4 or 1e-4-3e-2
        return _scientific_range(text, spec, logarithmic)
    first = _number(low, spec)
    return Range(first, _number(high, spec) if dash else first, logarithmic)


def _scientific_range(text: str, spec: str, logarithmic: bool) -> Range:
    for at, letter in enumerate(text):
        if letter == "-" and at and text[at - 1] not in "eE":
            low, high = _number(text[:at], spec), _number(text[at + 1 :], spec)
            return Range(low, high, logarithmic)
    return Range(_number(text, spec), _number(text, spec), logarithmic)
