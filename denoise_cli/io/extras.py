"""Packages that only some formats need, and what to install when they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import DenoiseError


def needed(package: str, extra: str, error: type[DenoiseError], what: str) -> Any:
    """Import `package`, or raise `error` that says which extra of denoise-cli brings it."""
    try:
        return import_module(package)
    except ImportError:
        raise error(f'{what} needs more: pip install "denoise-cli[{extra}]"') from None
