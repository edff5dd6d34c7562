"""The adaptation methods. One line each; names and options need no torch at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, get_type_hints

from ..errors import UsageError
from ..values import parse_value

# name -> "module:Class"
METHODS = {
    "ttt-mim": "ttt_mim:TTTMIM",
    "gaintuning": "gaintuning:GainTuning",
    "meta-transfer": "meta_transfer:MetaTransfer",
    "masked": "masked:Masked",
    "mpi": "mpi:MPI",
    "auto": "auto:Auto",
    "none": "base:Plain",
}


def method_class(name: str) -> Any:
    """The class of the method called `name`; its dataclass fields are its options.

    Raises
    ------
    UsageError
        If there is no such method.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    module, cls = METHODS[name].split(":")
    return getattr(import_module(f".{module}", __name__), cls)


def load_method(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """Build a method; option values may be text, which is read by the option's type.

    Raises
    ------
    UsageError
        If the method or an option is unknown, or a value does not fit.
    """
    cls = method_class(name)
    types = get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    values = {}
    for option, value in (options or {}).items():
        if option not in known:
            has = f"known are {', '.join(known)}" if known else "it has none"
            raise UsageError(f"method {name!r} has no option {option!r}; {has}")
        label = f"option {option!r} of method {name!r}"
        values[option] = parse_value(label, value, types[option])
    return cls(**values)


def describe(name: str) -> tuple[str, list[tuple[str, str, Any, str]]]:
    """The method's first docstring line, and (option, type, default, help) for each option."""
    cls = method_class(name)
    types = get_type_hints(cls)
    options = [(f.name, types[f.name].__name__, f.default, f.metadata["help"]) for f in fields(cls)]
    return (cls.__doc__ or "").splitlines()[0], options
