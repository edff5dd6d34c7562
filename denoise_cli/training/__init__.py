"""Training: recipes (one line each) and the function that runs one."""

from __future__ import annotations

from .loop import Progress, train

# name -> "module:Class"
RECIPES = {
    "ttt-mim": "joint_mim:JointMIM",
    "masked": "masked:MaskedImageTraining",
    "meta": "meta:MetaTransfer",
}

__all__ = ["RECIPES", "Progress", "train"]
