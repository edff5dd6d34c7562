"""CMYK becomes RGB in sRGB: the right way round, by the profile of the inks, and it is said."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow, ImageCms

from denoise_cli import io
from denoise_cli.image import Image


def light():
    """A colored slope, smooth enough for a JPEG."""
    y, x = np.mgrid[:64, :96]
    return np.stack([60 + 2 * x, 200 - 3 * y, 90 + y + x], axis=-1).astype(np.uint8)


def inks():
    return np.array(Pillow.fromarray(light()).convert("CMYK"))


def profile_of_inks(colors):
    """An ICC profile (ICC.1:2001) that says what light each of the 16 full overprints gives.

    `colors` are Lab values, for C, M, Y, K counted up as bits, K last.
    """

    def lab(value):
        level, a, b = value
        return bytes((round(level * 2.55), round(a) + 128, round(b) + 128))

    identity = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    table += struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table += identity * 4 + b"".join(map(lab, colors)) + identity * 3
    name = b"Test inks\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    parts = {b"desc": described, b"cprt": b"text" + bytes(4) + b"free\0", b"wtpt": white}
    parts[b"A2B0"] = table
    start = 128 + 4 + 12 * len(parts)
    directory, body = struct.pack(">I", len(parts)), b""
    for signature, content in parts.items():
        directory += struct.pack(">4sII", signature, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab "
    )
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + directory + body


# Inks of which cyan is green, and black none at all: nothing that a plain conversion would find.
ODD = profile_of_inks(
    [
        (100 - 25 * (c + m + y), -80 * c + 60 * m, 60 * c + 60 * y)
        for c in (0, 1)
        for m in (0, 1)
        for y in (0, 1)
        for k in (0, 1)
    ]
)


def save(path, samples, **settings):
    if path.suffix == ".jpg":
        icc = settings.get("icc_profile")
        Pillow.fromarray(samples, "CMYK").save(path, quality=98, subsampling=0, icc_profile=icc)
    else:
        icc = settings.pop("icc_profile", None)
        tifffile.imwrite(path, samples, photometric="separated", iccprofile=icc, **settings)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_light_is_that_of_the_picture(tmp_path, suffix):
    path = save(tmp_path / f"inks{suffix}", inks())
    found = io.read(path)
    assert (found.axes, found.samples.dtype) == ("YXS", np.uint8)
    np.testing.assert_allclose(found.samples.astype(int), light(), atol=6)
    assert "CMYK was converted plainly" in found.metadata.note


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_profile_decides(tmp_path, suffix):
    samples = np.zeros((16, 16, 4), np.uint8)
    samples[:, :, 0] = 255
    samples[8:, :, 3] = 255
    path = save(tmp_path / f"inks{suffix}", samples, icc_profile=ODD)
    found = io.read(path)
    red, green, blue = found.samples.reshape(-1, 3).mean(axis=0)
    assert green > 2 * max(red, blue)
    assert "by its ICC profile" in found.metadata.note
    assert np.ptp(found.samples[:, :, 1]) < 8  # this black is none
    assert "sRGB" in ImageCms.getProfileDescription(profile_in(found))


def profile_in(image: Image):
    import io as streams

    return ImageCms.ImageCmsProfile(streams.BytesIO(image.metadata.icc))


@pytest.mark.parametrize(
    "profile", [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
def test_an_unfit_profile_is_said(tmp_path, profile):
    found = io.read(save(tmp_path / "inks.jpg", inks(), icc_profile=profile))
    np.testing.assert_allclose(found.samples.astype(int), light(), atol=6)
    assert "not of CMYK" in found.metadata.note


def test_stacks_and_planes_of_inks(tmp_path):
    pages = np.stack([inks(), 255 - inks(), inks()])
    contiguous = io.read(save(tmp_path / "pages.tif", pages, planarconfig="contig"))
    assert contiguous.samples.shape == (3, 64, 96, 3)
    planes = save(tmp_path / "planes.tif", np.moveaxis(pages, -1, 1), planarconfig="separate")
    assert np.array_equal(io.read(planes).samples, contiguous.samples)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_what_is_written_is_rgb_and_the_command_line_says_so(folder, fast, suffix):
    path = save(folder / f"inks{suffix}", inks(), icc_profile=ODD)
    code, out, err = fast(path.name)
    assert (code, out, len(err)) == (0, "", 2)
    assert err[0] == f"denoise: {path.name}: note: {io.read(path).metadata.note}"
    target = folder / f"inks_denoised{suffix}"
    with Pillow.open(target) as opened:
        assert opened.mode == "RGB"
        assert opened.info["icc_profile"] == io.read(path).metadata.icc
    again = io.read(target)
    assert again.metadata.note == ""
    if suffix == ".tif":
        with tifffile.TiffFile(target) as tif:
            assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
            assert not {332, 333, 334, 336} & set(tif.pages[0].tags.keys())
    assert fast(path.name, "--overwrite", "-q")[2] == []
