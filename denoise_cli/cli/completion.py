"""What a shell offers for the values of options."""

from __future__ import annotations


def methods() -> list[str]:
    """The methods."""
    from ..methods import METHODS

    return list(METHODS)


def checkpoints() -> list[str]:
    """The checkpoints of the manifest, and imported ones."""
    from ..checkpoints import names

    return list(names())


def formats() -> list[str]:
    """The suffixes that can be written, without their dots."""
    from ..io import SUFFIXES

    return sorted(suffix[1:] for suffix in SUFFIXES)


def devices() -> list[str]:
    """The kinds of devices; what this machine has only torch knows, which takes seconds."""
    return ["auto", "cpu", "cuda", "mps"]


def precisions() -> list[str]:
    """The precisions."""
    return ["auto", "fp32", "bf16", "fp16"]
