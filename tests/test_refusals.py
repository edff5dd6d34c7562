"""What an output cannot hold is refused before anything is computed, in one line."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import noisy
from PIL import Image as Pillow, ImageCms
from test_raw import raw_image

from denoise_cli import io

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def colors(path, samples=3, **settings):
    Pillow.fromarray(noisy((96, 96, samples))).save(path, **settings)


def deep(path, axes="YX", dtype=np.uint16):
    shape = [3 if letter in "TS" else 96 for letter in axes]
    values = np.random.default_rng(0).integers(0, 4096, shape).astype(dtype)
    kind = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(path, values, photometric=kind, metadata={"axes": axes})


def mosaic(path):
    io.write(path, raw_image(shape=(96, 144)))


# (input and how it is made, output, exit code, what the line says)
WRONG = [
    ("photo.png", colors, "out.pbm", 2, "PBM holds black and white only"),
    ("photo.png", colors, "out.gif", 2, "GIF holds 256 colors"),
    ("photo.png", colors, "out.nef", 2, "written as .dng"),
    ("photo.png", colors, "out.xyz", 2, "names no image format"),
    ("photo.png", colors, "out.dng", 1, "mosaic of a camera raw file"),
    ("photo.png", colors, "out.dcm", 1, "only from DICOM"),
    ("photo.png", colors, "out.pgm", 1, "does not hold RGB"),
    ("photo.png", colors, "out.exr", 1, "not uint8"),
    ("photo.png", colors, "out.pfm", 1, "not uint8"),
    ("photo.png", colors, "out.zarr", 1, "channels, not color"),
    ("alpha.png", lambda path: colors(path, 4), "out.jpg", 1, "transparency"),
    ("alpha.png", lambda path: colors(path, 2), "out.bmp", 1, "gray with transparency"),
    ("icc.png", lambda path: colors(path, icc_profile=PROFILE), "out.bmp", 1, "color profile"),
    ("icc.png", lambda path: colors(path, icc_profile=PROFILE), "out.ppm", 1, "color profile"),
    ("deep.tif", deep, "out.jpg", 1, "8 bits per sample, not uint16"),
    ("deep.tif", deep, "out.webp", 1, "8 bits per sample, not uint16"),
    ("stack.tif", lambda path: deep(path, "TYX"), "out.png", 1, "animated PNG holds 8 bits"),
    ("stack.tif", lambda path: deep(path, "TYX"), "out.jpg", 1, "not axes TYX"),
    ("stack.tif", lambda path: deep(path, "TYX"), "out.avif", 1, "not axes TYX"),
    ("floats.tif", lambda path: deep(path, dtype=np.float32), "out.png", 1, "not float32"),
    ("floats.tif", lambda path: deep(path, dtype=np.float32), "out.heic", 1, "not float32"),
    ("raw.dng", mosaic, "out.bmp", 1, "not uint16"),
    ("raw.dng", mosaic, "out.pgm", 1, "does not hold RGB"),
]


@pytest.mark.parametrize(
    ("name", "make", "output", "exit_code", "reason"),
    WRONG,
    ids=[f"{name}-{output}" for name, _, output, _, _ in WRONG],
)
def test_before_the_adaptation(folder, fast, name, make, output, exit_code, reason):
    """The adapted network, which is saved as soon as there is one, is not there."""
    make(Path(name))
    code, out, err = fast(name, "-o", output, "--adapted-out", "adapted.safetensors")
    assert (code, out, len(err)) == (exit_code, "", 1)
    assert err[0].startswith(f"denoise: {output}: ")
    assert reason in err[0]
    assert sorted(path.name for path in folder.iterdir()) == [name]


def test_a_standard_output_and_a_folder_are_no_exception(folder, fast):
    colors("photo.png")
    deep("deep.tif")
    adapted = ("--adapted-out", "adapted.safetensors")
    code, _, err = fast("photo.png", "-o", "-", "--format", "pgm", *adapted)
    assert (code, len(err)) == (1, 1)
    assert "does not hold RGB" in err[0]
    assert not Path("adapted.safetensors").exists()
    code, _, err = fast(".", "-o", "out", "--format", "pbm")
    assert (code, err) == (2, ["denoise: --format .pbm: " + io.UNWRITTEN[".pbm"]])
    assert not Path("out").exists()
    code, _, err = fast("photo.png", "deep.tif", "-o", "out", "--format", "jpg")
    assert code == 1
    assert any("deep.jpg: JPEG holds 8 bits" in line for line in err)
    assert sorted(path.name for path in Path("out").iterdir()) == ["photo.jpg"]


def test_a_black_and_white_picture_becomes_gray(folder, fast):
    Pillow.fromarray(noisy((96, 96)) > 127).save("page.pbm")
    assert fast("page.pbm")[0] == 0
    assert io.read("page_denoised.pgm").samples.dtype == np.uint8


def test_asked_of_the_library_too(tmp_path):
    """A check reads no frame, and agrees with what writing says."""
    from denoise_cli.errors import UnwritableOutput
    from denoise_cli.image import Stack

    def frame(index):
        raise AssertionError("asked for a frame")

    stack = Stack((3, 40, 50), "TYX", np.dtype(np.uint16), frame)
    io.check_picture(tmp_path / "fine.tif", stack)
    with pytest.raises(UnwritableOutput, match="not axes TYX"):
        io.check_picture(tmp_path / "wrong.jpg", stack)
    with pytest.raises(UnwritableOutput, match="not axes TYX"):
        io.write(tmp_path / "wrong.jpg", stack)
