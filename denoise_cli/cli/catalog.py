"""`denoise methods` and `denoise info`: what there is, and what a file holds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
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
    """Show what a file holds, and what noise it has.

    The noise is measured on the image alone, where it is flat: its level (and how that grows with
    the brightness), whether it is correlated from pixel to pixel, single samples that stand out,
    the grid of a JPEG compression, and clipping. Brightness is on 0..1. Of a stack the middle plane
    is measured.
    """
    from ..io import read
    from ..noise_report import measure
    from .figures import network_planes

    image = read(file)
    samples, metadata = image.samples, image.metadata
    noise = measure(network_planes(image)[0])
    record: dict[str, Any] = {
        "input": str(file),
        "bytes": file.stat().st_size,
        "format": metadata.format,
        "shape": list(samples.shape),
        "axes": image.axes,
        "dtype": str(samples.dtype),
        "range": [samples.min().item(), samples.max().item()],
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
