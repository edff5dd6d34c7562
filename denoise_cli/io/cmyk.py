"""CMYK pictures as RGB: networks know light, not ink."""

from __future__ import annotations

import io
import struct

import numpy as np

from ..image import Array

INK_TAGS = frozenset({332, 333, 334, 336, 337})  # of a TIFF, untrue of RGB


def to_rgb(inks: Array, profile: bytes | None) -> tuple[Array, bytes, str]:
    """Convert ink of 8 bits to light.

    With a profile by relative colorimetry with black point compensation, as programs for photos
    and printing do by default; otherwise (1 - ink) (1 - black), as Pillow has it.

    Parameters
    ----------
    inks : numpy.ndarray
        (..., Y, X, 4), uint8, 0 no ink.
    profile : bytes or None
        ICC profile of the inks.

    Returns
    -------
    samples : numpy.ndarray
        (..., Y, X, 3), uint8, sRGB.
    icc : bytes
        The profile of sRGB.
    note : str
        What was done, in one line for people.
    """
    import PIL.Image
    from PIL import ImageCms

    shape = (*inks.shape[:-1], 3)
    picture = PIL.Image.fromarray(np.ascontiguousarray(inks).reshape(-1, *inks.shape[-2:]), "CMYK")
    srgb = ImageCms.ImageCmsProfile(io.BytesIO(_srgb()))
    how = "plainly, as it has no ICC profile"
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                picture,
                source,
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            assert converted is not None  # it is only when done in place
            return np.array(converted).reshape(shape), _srgb(), _note("by its ICC profile")
        except (ImageCms.PyCMSError, OSError):
            how = "plainly, as its ICC profile is damaged or not of CMYK"
    return np.array(picture.convert("RGB")).reshape(shape), _srgb(), _note(how)


def _note(how: str) -> str:
    return f"CMYK was converted {how}; the output is RGB with an sRGB profile"


def _srgb() -> bytes:
    """The profile of sRGB, always the same bytes: LittleCMS puts the time into its header."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    struct.pack_into(">6H", profile, 24, 2000, 1, 1, 0, 0, 0)
    return bytes(profile)
