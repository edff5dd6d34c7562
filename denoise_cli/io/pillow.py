"""What the formats that go through Pillow share: pixels, animations, profile, EXIF and XMP."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnreadableImage
from ..image import Image, Metadata, Stack
from . import exif as exif_
from .limits import check_8_bits, check_single

if TYPE_CHECKING:
    import PIL.Image

EXIF_MARK = b"Exif\0\0"


@contextmanager
def opened(opener: Any, path: Path) -> Iterator[Any]:
    """The picture that a class of Pillow opens: itself, not PIL.Image.open, for large ones too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on what is not used here
        with opener(io.BytesIO(path.read_bytes())) as picture:
            yield picture


def read(picture: Any, format_: str, **native: Any) -> Image:
    """Read an opened picture: gray or RGB, with or without alpha, its frames along T."""
    count = getattr(picture, "n_frames", 1)
    frames, durations = [], []
    for index in range(count):
        picture.seek(index)
        frames.append(_plain(picture))
        durations.append(picture.info.get("duration", 0))  # some know it when it is loaded
    mode = _common_mode(frames)
    samples = [np.array(frame.convert(mode)) for frame in frames]
    axes = "YX" if mode == "L" else "YXS"
    if count > 1:
        native["animation"] = {"durations": durations, "loop": picture.info.get("loop", 1)}
        return Image(np.stack(samples), "T" + axes, metadata(picture, format_, **native))
    return Image(samples[0], axes, metadata(picture, format_, **native))


def metadata(picture: Any, format_: str, **native: Any) -> Metadata:
    """What an opened picture says of itself."""
    info = picture.info
    exif = info.get("exif")
    if exif is not None:
        exif = exif[exif.startswith(EXIF_MARK) and len(EXIF_MARK) :]
    if info.get("xmp"):
        native["xmp"] = info["xmp"]
    if "dpi" in info and all(info["dpi"]):
        native["dpi"] = tuple(float(value) for value in info["dpi"])
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif or None,
        orientation=exif_.orientation(exif_.parse(exif)) if exif else 1,
        format=format_,
        native=native,
    )


def save_options(image: Image) -> dict[str, Any]:
    """Profile, EXIF, XMP and timing, as Pillow takes them when it saves."""
    metadata = image.metadata
    exif = exif_.with_orientation(metadata.exif, metadata.orientation)
    found = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.native.get("xmp")}
    options = {key: value for key, value in found.items() if value}
    if image.axes.startswith("T"):
        timing = metadata.native.get("animation", {})
        durations = timing.get("durations", ())
        fits = len(durations) == len(image.samples)
        options["duration"] = list(durations) if fits else 100
        options["loop"] = timing.get("loop", 0)
    return options


def check(stack: Stack, name: str, *, animated: bool = False) -> None:
    """Raise UnwritableOutput unless a format called `name` holds it with 8 bits a sample."""
    check_single(stack, name, animated=animated)
    check_8_bits(stack, name)


def pictures(image: Image) -> list[PIL.Image.Image]:
    """The frames of an image of 8 bits, see `check`, as pictures of Pillow."""
    import PIL.Image

    samples = image.samples if image.axes.startswith("T") else image.samples[None]
    if samples.ndim == 4 and samples.shape[3] == 1:
        samples = samples[..., 0]
    return [PIL.Image.fromarray(np.ascontiguousarray(frame)) for frame in samples]


def _plain(frame: Any) -> PIL.Image.Image:
    """A copy of a frame as gray or RGB, with alpha where it has transparency."""
    if frame.mode in ("L", "LA", "RGB", "RGBA"):
        copy: PIL.Image.Image = frame.copy()
        return copy
    if frame.mode in ("1", "I;16") or (frame.mode == "P" and _is_gray(frame)):
        if frame.mode == "I;16":
            raise UnreadableImage("has 16 bits per sample, which are not read; write a .tif file")
        return frame.convert("L")
    if frame.mode in ("P", "PA", "RGBX", "RGBa", "La"):
        return frame.convert("RGBA" if frame.has_transparency_data else "RGB")
    raise UnreadableImage(f"has {frame.mode} colors, which are not read; convert it to RGB")


def _is_gray(frame: Any) -> bool:
    colors = np.array(frame.getpalette("RGB")).reshape(-1, 3)
    return not frame.has_transparency_data and bool((colors == colors[:, :1]).all())


def _common_mode(frames: list[PIL.Image.Image]) -> str:
    """The least of L, LA, RGB and RGBA that holds all frames."""
    color = any(frame.mode in ("RGB", "RGBA") for frame in frames)
    alpha = any(frame.mode in ("LA", "RGBA") for frame in frames)
    if len(frames) > 1 and alpha:
        # Frames laid over each other come with an alpha that is often full everywhere.
        alpha = any("A" in f.mode and f.getextrema()[-1][0] < 255 for f in frames)  # type: ignore
    return ("RGB" if color else "L") + ("A" if alpha else "")
