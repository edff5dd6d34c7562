"""`denoise methods` and `denoise info`: what there is, and what a file holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..io.exif import EXIF_POINTER, Field, parse
from . import options
from .page import noise_facts
from .report import Report, json_safe

# What `denoise info` says of EXIF: name -> tag (EXIF 2.32) and how its value is written.
EXIF = {
    "make": (271, "{}"),
    "model": (272, "{}"),
    "lens": (42036, "{}"),
    "time": (36867, "{}"),
    "exposure": (33434, "{} s"),
    "aperture": (33437, "f/{}"),
    "sensitivity": (34855, "ISO {}"),
    "focal_length": (37386, "{} mm"),
}

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console, RenderableType

    from ..image import Stack


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
    """Show what a file holds, and what noise it has.

    The noise is measured on the image alone, where it is flat: its level (and how that grows with
    the brightness), whether it is correlated from pixel to pixel, single samples that stand out,
    the grid of a JPEG compression, and clipping. Brightness is on 0..1. Of a stack the middle plane
    is measured, of a camera raw file the samples of one green filter.
    """
    from ..io import open_stack
    from ..noise_report import measure

    with open_stack(file) as stack:
        plane, low, high = _middle_plane(stack)
    metadata, noise = stack.metadata, measure(plane)
    record: dict[str, Any] = {
        "input": str(file),
        "bytes": _size(file),
        "format": metadata.format,
        "shape": list(stack.shape),
        "axes": stack.axes,
        "dtype": str(stack.dtype),
        "range": [low, high],
        "orientation": metadata.orientation,
        "icc": profile_name(metadata.icc) if as_json else profile_name(metadata.icc) or "no",
        "exif": exif_summary(metadata.exif),
    }
    if as_json:
        Report(as_json=True).data({**record, "noise": noise.record()})
        return
    record["exif"] = ", ".join(record["exif"].values()) or "no"
    show_record(record)
    show_record({name.lower(): text for name, text in noise_facts(noise)})


def _middle_plane(stack: Stack) -> tuple[np.ndarray, float, float]:
    """The middle plane (C, Y, X) as a network sees it, and the extremes of the whole stack.

    One frame at a time is in memory.
    """
    from ..image import to_planes
    from ..streaming import channels, scales

    extremes: list[float] = []

    def watched(index: int) -> np.ndarray:
        frame = stack.frame(index)
        extremes.extend((frame.min().item(), frame.max().item()))
        return frame

    scale = scales(replace(stack, frame=watched))
    low, high = min(extremes), max(extremes)
    index = stack.count // 2
    frame, view = stack.frame(index), stack.metadata.view
    if view is not None:
        return view.even(frame)[None], low, high
    planes, _ = to_planes(frame, stack.frame_axes)
    middle = len(planes) // 2
    return scale[channels(stack, index)[middle]].forward(planes[middle]), low, high


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a store."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def profile_name(icc: bytes | None) -> str | None:
    """What an ICC profile calls itself."""
    if icc is None:
        return None
    import io

    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "damaged"


def exif_summary(exif: bytes | None) -> dict[str, str]:
    """Camera, lens, time, exposure, aperture, sensitivity and focal length, as far as given."""
    directory = parse(exif) if exif else {}
    pointed = directory.get(EXIF_POINTER)
    fields = {**directory, **((pointed.children or {}) if pointed else {})}
    found = {}
    for name, (code, unit) in EXIF.items():
        if code in fields and fields[code].children is None:
            text = _exif_text(fields[code])
            if text and name == "exposure":
                text = f"1/{1 / float(text):.0f}" if 0 < float(text) < 0.5 else text
            if text:
                found[name] = unit.format(text)
    return found


def _exif_text(field: Field) -> str:
    if field.kind == 2:  # ASCII
        return field.value.split(b"\0")[0].decode("utf-8", "replace").strip()
    number = next(iter(field.numbers()), None)
    if isinstance(number, tuple):
        number = number[0] / number[1] if number[1] else None
    return "" if number is None else f"{number:.6g}"


def show(what: RenderableType) -> None:
    """Print text or a table on stdout; as wide as it needs to be where that is no terminal."""
    console().print(what)


def show_record(record: Mapping[str, Any]) -> None:
    """Print names and values on stdout, a line each."""
    for key, value in json_safe(record).items():
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        typer.echo(f"{key:16} {text}")


def console() -> Console:
    """The console of stdout."""
    from rich.console import Console

    # Noises and file names may read like the codes of emoji and of colors.
    return Console(
        width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False
    )
