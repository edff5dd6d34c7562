"""The recipes: one line each; what a recipe is, is in CONTRIBUTING.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from typing import Any, get_type_hints

from ..errors import UsageError
from ..values import parse_value

# name -> "module:Class"
RECIPES = {
    "ttt-mim": "joint_mim:JointMIM",
    "mpi": "mpi:MPI",
    "masked": "masked:MaskedImageTraining",
    "meta": "meta:MetaTransfer",
    "supervised": "supervised:Supervised",
    "noise2void": "noise2void:Noise2Void",
}


def load_recipe(name: str, options: Mapping[str, Any] | None = None, **overrides: Any) -> Any:
    """Build a recipe; `options` may be text, `overrides` that are None are left at their default.

    Raises
    ------
    UsageError
        If the recipe or an option is unknown, or a value does not fit.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}")
    module, cls_name = RECIPES[name].split(":")
    cls = getattr(import_module(f".{module}", __package__), cls_name)
    types = get_type_hints(cls)
    known = [f.name for f in fields(cls) if types[f.name] in (int, float, str, bool)]
    values = {key: value for key, value in overrides.items() if value is not None}
    for option, text in (options or {}).items():
        if option not in known:
            raise UsageError(
                f"recipe {name!r} has no option {option!r}; known are {', '.join(known)}"
            )
        label = f"option {option!r} of recipe {name!r}"
        values[option] = parse_value(label, text, types[option])
    return replace(cls(), **values)
