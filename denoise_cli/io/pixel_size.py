"""How long a pixel is along each axis, as microscopy files say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

# Units as ImageJ and OME write them, and as OME-NGFF wants them.
UNITS = {
    "pm": "picometer",
    "nm": "nanometer",
    "um": "micrometer",
    "\u00b5m": "micrometer",  # micro sign
    "\u03bcm": "micrometer",  # Greek mu
    "\\u00B5m": "micrometer",  # as ImageJ escapes it
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
}

PixelSize = dict[str, tuple[float, str]]  # axis letter -> length and unit of OME-NGFF


def of_imagej(metadata: Mapping[str, Any], resolution: tuple[float, float] | None) -> PixelSize:
    """From the description of ImageJ and the pixels per unit in x and y."""
    unit = UNITS.get(str(metadata.get("unit", "")))
    found: PixelSize = {}
    if unit and resolution and all(value > 0 for value in resolution):
        found = {"X": (1 / resolution[0], unit), "Y": (1 / resolution[1], unit)}
    if unit and _positive(metadata.get("spacing")):
        found["Z"] = (float(metadata["spacing"]), unit)
    if _positive(metadata.get("finterval")):
        unit = UNITS.get(str(metadata.get("tunit", "s")))
        found |= {"T": (float(metadata["finterval"]), unit)} if unit else {}
    return found


def of_ome(xml: str) -> PixelSize:
    """From the first image of OME-XML; nothing if it cannot be understood."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return {}
    pixels = root.find("{*}Image/{*}Pixels")
    found: PixelSize = {}
    names = [(letter, f"PhysicalSize{letter}", "\u00b5m") for letter in "XYZ"]
    for letter, name, default in [*names, ("T", "TimeIncrement", "s")]:
        value = pixels.get(name) if pixels is not None else None
        unit = UNITS.get(pixels.get(f"{name}Unit", default)) if pixels is not None else None
        if unit and _positive(value):
            found[letter] = (float(str(value)), unit)
    return found


def _positive(value: Any) -> bool:
    try:
        return float(value) > 0
    except (TypeError, ValueError):
        return False
