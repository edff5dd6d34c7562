"""Samples of 0 to a largest value, widened to the full range of 8 or 16 bits and back."""

from __future__ import annotations

import numpy as np

from ..image import Array


def widened(samples: Array, largest: int) -> Array:
    """Unsigned samples of 0 to `largest` (at most 65535) on the range of 8 or 16 bits.

    Exactly undone by `narrowed`, since steps get longer.
    """
    return _mapped(samples, largest, _top(largest))


def narrowed(samples: Array, largest: int) -> Array:
    """The inverse of `widened`, rounded."""
    return _mapped(samples, _top(largest), largest)


def _top(largest: int) -> int:
    return 255 if largest <= 255 else 65535


def _mapped(samples: Array, source: int, target: int) -> Array:
    wide = (samples.astype(np.uint64) * target + source // 2) // source
    return wide.astype(np.uint8 if max(source, target) <= 255 else np.uint16)
