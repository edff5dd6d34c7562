"""DICOM: gray and RGB, one frame or several; needs the extra "dicom"."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnreadableImage, UnwritableOutput
from ..image import Array, Image, Metadata, Stack
from .extras import needed

NAME = "DICOM"
SUFFIXES = frozenset({".dcm", ".dicom"})

GRAY = ("MONOCHROME1", "MONOCHROME2")


def matches(header: bytes) -> bool:
    """Whether a file that begins so is a DICOM."""
    return header[128:132] == b"DICM"


def read(path: Path) -> Image:
    """Read the stored numbers (not rescaled); frames are along T."""
    pydicom = needed("pydicom", "dicom", UnreadableImage, NAME)
    try:
        dataset = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError as error:
        raise UnreadableImage(f"damaged DICOM ({error}); export it again") from error
    if "PixelData" not in dataset:
        raise UnreadableImage("a DICOM without a picture of integers; give another")
    photometric = dataset.PhotometricInterpretation
    if photometric not in (*GRAY, "RGB") and not photometric.startswith("YBR"):
        raise UnreadableImage(f"a DICOM of {photometric} colors, which is not read; export it")
    try:
        samples: Array = np.array(dataset.pixel_array)
    except (NotImplementedError, RuntimeError) as error:
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise UnreadableImage(
            f"its pixels cannot be decoded ({syntax}); store it uncompressed, as by dcmdjpeg"
        ) from error
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    axes = ("T" if frames > 1 else "") + "YX" + ("" if photometric in GRAY else "S")
    samples = samples.reshape([n for n in samples.shape if n != 1 or samples.ndim == len(axes)])
    if samples.ndim != len(axes):
        raise UnreadableImage(f"a DICOM of shape {samples.shape}, which is not read; export it")
    if photometric.startswith("YBR"):
        photometric = "RGB"  # what the pixels have been decoded to
    del dataset.PixelData
    native = {"dataset": dataset, "photometric": photometric, "axes": axes}
    return Image(samples, axes, Metadata(format="dicom", native=native))


def check(stack: Stack, suffix: str) -> None:
    """Raise UnwritableOutput if the DICOM it came from cannot hold pictures of this kind."""
    needed("pydicom", "dicom", UnwritableOutput, NAME)
    if stack.metadata.format != "dicom":
        raise UnwritableOutput("DICOM is written only from DICOM; write a .tif file")
    native = stack.metadata.native
    allocated = native["dataset"].BitsAllocated
    if stack.axes != native["axes"] or stack.dtype.itemsize * 8 != allocated:
        raise UnwritableOutput(
            f"DICOM cannot take axes {stack.axes} of {stack.dtype} in place of its own picture; "
            "write a .tif file"
        )


def write(path: Path, image: Image) -> None:
    """Write the data set of the source with new pixels, marked as derived, uncompressed.

    Nothing else makes a DICOM: it says who was examined and how.
    """
    pydicom = needed("pydicom", "dicom", UnwritableOutput, NAME)
    native = image.metadata.native
    dataset = copy.deepcopy(native["dataset"])
    bits = int(dataset.BitsStored)
    signed = bool(dataset.PixelRepresentation)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    samples = np.clip(image.samples, low, high)
    dataset.PixelData = np.ascontiguousarray(
        samples.astype(samples.dtype.newbyteorder("<"))
    ).tobytes()
    dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
    dataset.HighBit = bits - 1
    dataset.PhotometricInterpretation = native["photometric"]
    if dataset.SamplesPerPixel > 1:
        dataset.PlanarConfiguration = 0
    _mark_derived(dataset, pydicom)
    dataset.save_as(path, enforce_file_format=True, little_endian=True, implicit_vr=False)


def _mark_derived(dataset: Any, pydicom: Any) -> None:
    """Say that this is another picture, derived from the source (PS3.3, C.7.6.1.1.2)."""
    kind = list(dataset.get("ImageType", [])) or ["ORIGINAL", "PRIMARY"]
    dataset.ImageType = ["DERIVED", *kind[1:]]
    dataset.DerivationDescription = "denoised"
    dataset.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(dataset.SOPInstanceUID)])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
