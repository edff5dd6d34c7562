"""Training: recipes and the function that runs one."""

from __future__ import annotations

from .loop import Progress, train
from .recipes import RECIPES

__all__ = ["RECIPES", "Progress", "train"]
