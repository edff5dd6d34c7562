"""Bad files say what is wrong, and what cannot be written leaves nothing behind."""

import logging
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from io_pictures import (
    SMALL_PNGS,
    assert_same,
    interlaced_rows,
    jpeg_bytes,
    picture,
    png_bytes,
    round_trip,
)
from PIL import Image as Pillow

from denoise_cli import io
from denoise_cli.errors import UnreadableImage, UnwritableOutput, UsageError
from denoise_cli.image import Image

# --- what cannot be read ----------------------------------------------------------------------


def tiff_file(samples, **options):
    def write(path):
        tifffile.imwrite(path, samples, **options)

    return write


def two_sizes(path):
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.zeros((4, 4), np.uint8), metadata=None)
        tif.write(np.zeros((5, 5), np.uint8), metadata=None)


def dng(path):
    tifffile.imwrite(path, np.zeros((4, 4, 3), np.uint8), extratags=[(50706, 1, 4, (1, 4, 0, 0))])


ONES = np.ones((8, 8), np.float32)
RAW = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "missing": (lambda path: None, "no such file"),
    "text": (lambda path: path.write_bytes(b"hello, world\n" * 20), "text"),
    "noise": (lambda path: path.write_bytes(bytes(range(256))), "unknown format"),
    "jpeg 2000": (lambda path: Pillow.new("L", (9, 9)).save(path, "JPEG2000"), "2000.*convert"),
    "signature": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "truncated PNG"),
    "no pixels": (lambda path: path.write_bytes(SMALL_PNGS["palette"][0][:33]), "truncated PNG"),
    "short rows": (lambda path: path.write_bytes(png_bytes(4, 4, 8, 0, bytes(9))), "PNG"),
    "nan": (tiff_file(ONES * np.nan), "NaN"),
    "infinity": (tiff_file(ONES * np.inf), "infinite"),
    "complex": (tiff_file(ONES.astype(np.complex64)), "complex"),
    "uint64": (tiff_file(ONES.astype(np.uint64)), "uint64"),
    "five samples": (
        tiff_file(np.zeros((8, 8, 5), np.uint8), photometric="rgb", extrasamples=[0, 0]),
        "5 samples per pixel",
    ),
    "cmyk of 16 bits": (
        tiff_file(np.zeros((8, 8, 4), np.uint16), photometric="separated"),
        "CMYK.*convert it to RGB",
    ),
    "mosaic": (tiff_file(np.zeros((8, 8), np.uint16), photometric="cfa"), "raw mosaic"),
    "dng": (dng, "camera raw"),
    "two sizes": (two_sizes, "2 pictures"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_bad_file_is_refused_in_one_line(tmp_path, capfd, name):
    make, reason = RAW[name]
    path = tmp_path / "picture.png"
    make(path)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        io.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert ";" in message  # reason; mend
    assert capfd.readouterr() == ("", "")


WHOLE = {
    "png": lambda path: io.write(path, picture("rgb", "uint16")),
    "png interlaced": lambda path: path.write_bytes(
        png_bytes(21, 34, 8, 0, interlaced_rows(picture("gray").samples.T), interlaced=1)
    ),
    "jpeg": lambda path: path.write_bytes(jpeg_bytes()),
    "jpeg progressive": lambda path: path.write_bytes(jpeg_bytes(progressive=True)),
    "tiff": tiff_file(picture().samples, photometric="rgb"),
    "tiff tiles": tiff_file(picture().samples, photometric="rgb", compression="lzw", tile=(16, 16)),
    "tiff strips": tiff_file(
        picture().samples, photometric="rgb", compression="zlib", rowsperstrip=2
    ),
    "tiff stack": tiff_file(np.ones((3, 21, 34), np.uint8), photometric="minisblack"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_refused(tmp_path, capfd, name):
    suffix = "." + name[:4].strip().replace("jpeg", "jpg").replace("tiff", "tif")
    path = tmp_path / f"a{suffix}"
    WHOLE[name](path)
    whole = path.read_bytes()
    io.read(path)
    for part in (0.05, 0.3, 0.6, 0.9, 0.97):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UnreadableImage) as caught:
            io.read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_png_names_its_chunk(tmp_path):
    io.write(tmp_path / "a.png", picture())
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnreadableImage, match="check sum of its IDAT"):
        io.read(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImage, match="regular file"):
        io.read(tmp_path / "pipe.png")
    with pytest.raises(UnwritableOutput, match="regular file"):
        io.write(tmp_path / "pipe.png", picture(), overwrite=True)


def test_reading_leaves_the_log_of_tifffile_as_it_was(tmp_path):
    logger = logging.getLogger("tifffile")
    before = (list(logger.handlers), logger.propagate)
    io.write(tmp_path / "a.tif", picture())
    io.read(tmp_path / "a.tif")
    assert (logger.handlers, logger.propagate) == before


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_large_pictures_open_without_warning(tmp_path, suffix):
    samples = np.zeros((14000, 14000), np.uint8)  # Pillow warns from 89, raises from 179 million
    assert_same(round_trip(tmp_path, Image(samples, "YX"), suffix), Image(samples, "YX"))


# --- what cannot be written -------------------------------------------------------------------


STACK = Image(np.zeros((3, 8, 8), np.uint8), "ZYX")


@pytest.mark.parametrize(
    ("image", "suffix", "reason"),
    [
        (picture("rgb", "uint16"), ".jpg", r"8 bits.*uint16.*\.png or \.tif"),
        (picture("rgb", "float32"), ".jpg", r"float32.*\.tif"),
        (picture("rgba"), ".jpg", r"transparency.*\.png or \.tif"),
        (picture("gray-alpha"), ".jpg", r"transparency.*\.png or \.tif"),
        (picture("rgb", "float32"), ".png", r"float32.*\.tif"),
        (picture("rgb", "int16"), ".png", r"int16.*\.tif"),
        (STACK, ".png", r"ZYX.*\.tif"),
        (STACK, ".jpg", r"ZYX.*\.tif"),
        (Image(np.zeros((1, 70000), np.uint8), "YX"), ".jpg", r"65535.*\.png or \.tif"),
        (Image(np.zeros((8, 8), np.complex64), "YX"), ".tif", "complex64.*float32"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path, image, suffix, reason):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(UnwritableOutput, match=reason) as caught:
        io.write(path, image)
    assert str(caught.value).startswith(f"{path}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.xyz", "a", "png", "a.png.bak"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png, .*\.tif"):
        io.write(tmp_path / name, picture())


def test_an_existing_file_needs_overwrite(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists; give --overwrite or another -o"):
        io.write(path, picture())
    with pytest.raises(UsageError, match="exists"):
        io.check_output(path)
    assert path.read_bytes() == b"precious"
    io.write(path, picture(), overwrite=True)
    assert_same(io.read(path), picture())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_failing_overwrite_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(UnwritableOutput):
        io.write(path, Image(np.zeros((2, 2), np.complex64), "YX"), overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"precious"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UnwritableOutput, match="no folder"):
        io.write(tmp_path / "nowhere" / "a.png", picture())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UnwritableOutput, match="not a regular file"):
        io.write(tmp_path / "a.png", picture(), overwrite=True)


@pytest.mark.skipif(os.name == "nt", reason="needs permission bits")
def test_a_folder_without_permission_is_refused(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UnwritableOutput, match="permission"):
            io.write(tmp_path / "a.png", picture())
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="needs permission bits")
def test_permissions_follow_the_umask_or_the_file_replaced(tmp_path):
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        old = os.umask(umask)
        try:
            io.write(tmp_path / f"{mode}.png", picture())
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / f"{mode}.png").stat().st_mode) == mode
    (tmp_path / "420.png").chmod(0o664)
    io.write(tmp_path / "420.png", picture(), overwrite=True)
    assert stat.S_IMODE((tmp_path / "420.png").stat().st_mode) == 0o664


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "a.png").symlink_to(tmp_path / "there" / "b.png")
    io.write(tmp_path / "a.png", picture())
    assert (tmp_path / "a.png").is_symlink()
    assert_same(io.read(tmp_path / "there" / "b.png"), picture())


FULL_DISK = """
import resource, sys
import numpy as np
from denoise_cli import errors, image, io
samples = np.random.default_rng(0).integers(0, 255, (400, 500, 3)).astype(np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
metadata = image.Metadata(native=dict(layout=io.tiff_layout.Layout(compression=1)), format="tiff")
try:
    io.write(sys.argv[1], image.Image(samples, "YXS", metadata))
except errors.UnwritableOutput as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
@pytest.mark.parametrize("room", [0, 1000, 100_000])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_full_disk_leaves_no_file(tmp_path, suffix, room):
    path = tmp_path / f"a{suffix}"
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path, str(room)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(f"{path}: cannot be written")
    assert found.stdout.count("\n") == 1
    assert found.stderr == ""
    assert list(tmp_path.iterdir()) == []
