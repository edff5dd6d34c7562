"""`denoise methods` and `denoise info`: what there is, and what a file holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .report import Report, json_safe

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One method.", show_default=False)
    ] = None,
    debug: options.Debug = False,
) -> None:
    """List the methods and their options, which -O NAME=VALUE sets."""
    from rich.table import Table

    from ..methods import METHODS, describe

    for method in [name] if name else METHODS:
        summary, known = describe(method)
        show(f"{method}: {summary}")
        if known:
            table = Table("option", "type", "default", "", box=None, padding=(0, 2))
            for option, kind, default, explanation in known:
                table.add_row(option, kind, str(default), explanation)
            show(table)


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An image.", show_default=False)],
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what a file holds: format, axes, type, range, metadata."""
    from ..io import read

    image = read(file)
    samples, metadata = image.samples, image.metadata
    record: dict[str, Any] = {
        "input": str(file),
        "format": metadata.format,
        "shape": list(samples.shape),
        "axes": image.axes,
        "dtype": str(samples.dtype),
        "range": [samples.min().item(), samples.max().item()],
        "orientation": metadata.orientation,
        "icc": metadata.icc is not None,
        "exif": metadata.exif is not None,
    }
    if as_json:
        Report(as_json=True).data(record)
        return
    show_record(record)


def show(what: RenderableType) -> None:
    """Print text or a table on stdout; as wide as it needs to be where that is no terminal."""
    console().print(what, markup=False, highlight=False)


def show_record(record: Mapping[str, Any]) -> None:
    """Print names and values on stdout, a line each."""
    for key, value in json_safe(record).items():
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        typer.echo(f"{key:16} {text}")


def console() -> Console:
    """The console of stdout."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)
