"""Pictures come back from files as they went in."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from io_pictures import (
    DTYPES,
    ICC,
    LAYOUTS,
    SMALL_PNGS,
    assert_same,
    chunk,
    interlaced_rows,
    jpeg_bytes,
    picture,
    png_bytes,
    round_trip,
    some_exif,
)
from PIL import Image as Pillow

from denoise_cli import io
from denoise_cli.errors import UnreadableImage, UnwritableOutput
from denoise_cli.image import Image, Metadata
from denoise_cli.io import exif

# --- pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("suffix", "dtype"), [(suffix, dtype) for suffix in DTYPES for dtype in DTYPES[suffix]]
)
def test_pixels_come_back_exactly(tmp_path, suffix, dtype, layout):
    image = picture(layout, dtype)
    found = round_trip(tmp_path, image, suffix)
    assert_same(found, image)
    assert_same(round_trip(tmp_path, found, suffix), image)
    assert found.samples.dtype.isnative


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_one_sample_is_gray(tmp_path, suffix):
    samples = np.full((16, 16, 1), 77, np.uint8)
    found = round_trip(tmp_path, Image(samples, "YXS"), suffix)
    assert_same(found, Image(samples[..., 0], "YX"))


@pytest.mark.parametrize("colors", [0, 3])
def test_jpeg_is_close(tmp_path, colors):
    y, x = np.mgrid[:40, :60]
    red = (127 + 100 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    samples = np.stack([red, red[::-1], red[:, ::-1]], -1) if colors else red
    image = Image(samples, "YXS" if colors else "YX")
    found = round_trip(tmp_path, image, ".jpg")
    assert found.samples.shape == samples.shape
    assert np.abs(found.samples.astype(int) - samples).max() <= 8


def test_byte_order_of_memory_does_not_matter(tmp_path):
    image = picture("rgb", "uint16")
    swapped = Image(image.samples.astype(">u2")[::-1][::-1], "YXS")
    for suffix in (".png", ".tif"):
        assert_same(round_trip(tmp_path, swapped, suffix), image)


def test_the_content_decides_not_the_suffix(tmp_path):
    image = picture()
    io.write(tmp_path / "a.png", image)
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    assert io.read(tmp_path / "a.tif").metadata.format == "png"


def test_suffixes_in_capitals(tmp_path):
    io.write(tmp_path / "A.TIFF", picture())
    io.write(tmp_path / "A.JPEG", picture())
    assert {io.read(p).metadata.format for p in tmp_path.iterdir()} == {"tiff", "jpeg"}


# --- metadata -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("layout", ["gray", "rgb"])
def test_icc_and_exif_come_back(tmp_path, suffix, order, layout):
    blob = some_exif(order)
    image = picture(layout, icc=ICC, exif=blob, orientation=6, format="")
    found = round_trip(tmp_path, image, suffix).metadata
    assert found.icc == ICC
    assert found.orientation == 6
    assert found.exif == blob


@pytest.mark.parametrize("source", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".tif"])
def test_icc_exif_and_orientation_survive_a_change_of_format(tmp_path, source, target):
    image = picture(icc=ICC, exif=some_exif(orientation=8), orientation=8)
    first = round_trip(tmp_path, image, source)
    found = round_trip(tmp_path, first, target).metadata
    assert (found.icc, found.orientation) == (ICC, 8)
    assert exif.parse(found.exif) == exif.parse(image.metadata.exif)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_orientation_without_exif_is_kept(tmp_path, suffix):
    found = round_trip(tmp_path, picture(orientation=5), suffix)
    assert found.metadata.orientation == 5
    with Pillow.open(tmp_path / f"out{suffix}") as opened:
        assert opened.getexif()[274] == 5


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_pillow_reads_the_exif(tmp_path, suffix):
    io.write(tmp_path / f"a{suffix}", picture(exif=some_exif(), icc=ICC, orientation=6))
    with Pillow.open(tmp_path / f"a{suffix}") as opened:
        found = opened.getexif()
        assert (found[271], found[274]) == ("Maker", 6)
        assert found.get_ifd(exif.EXIF_POINTER)[34855] == 1600
        assert float(found.get_ifd(exif.GPS_POINTER)[2][2]) == pytest.approx(30.33)
        assert opened.info["icc_profile"] == ICC


def test_tifffile_reads_the_exif_of_tiff_and_bigtiff(tmp_path):
    for big in (False, True):
        tifffile.imwrite(tmp_path / "a.tif", picture().samples, photometric="rgb", bigtiff=big)
        image = io.read(tmp_path / "a.tif")
        exifed = Metadata(exif=some_exif(), format="tiff", native=image.metadata.native)
        io.write(tmp_path / "b.tif", Image(image.samples, "YXS", exifed), overwrite=True)
        with tifffile.TiffFile(tmp_path / "b.tif") as tif:
            assert tif.is_bigtiff == big
            assert tif.pages[0].tags[exif.EXIF_POINTER].value["ISOSpeedRatings"] == 1600
            assert tif.pages[0].tags[exif.GPS_POINTER].value["GPSLatitudeRef"] == "N"
        found = io.read(tmp_path / "b.tif").metadata.exif
        assert exif.parse(found) == exif.parse(some_exif())


def test_damaged_exif_is_carried_along(tmp_path):
    for blob in (b"", b"no exif at all", b"II*\0\xff\xff\xff\xff", some_exif()[:70]):
        found = round_trip(tmp_path, picture(exif=blob), ".jpg").metadata
        assert (found.exif or b"", found.orientation in range(1, 9)) == (blob, True)
        round_trip(tmp_path, picture(exif=blob), ".tif")


def test_a_damaged_tag_does_not_hide_the_picture(tmp_path):
    tags = [(33723, 7, 4, b"IPTC", True)]  # tifffile takes these four bytes for an offset
    tifffile.imwrite(tmp_path / "a.tif", picture().samples, photometric="rgb", extratags=tags)
    assert_same(io.read(tmp_path / "a.tif"), picture())


def test_exif_that_points_to_itself_ends(tmp_path):
    loop = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, exif.EXIF_POINTER, 4, 1, 8, 0)
    assert round_trip(tmp_path, picture(exif=loop), ".png").metadata.exif == loop


def test_resolution_survives_a_change_of_format(tmp_path):
    path = tmp_path / "a.png"
    Pillow.fromarray(picture().samples).save(path, dpi=(300, 150))
    for suffix in (".jpg", ".tif", ".png"):
        image = io.read(path)
        path = tmp_path / f"b{suffix}"
        io.write(path, image)
        with Pillow.open(path) as opened:
            assert tuple(map(float, opened.info["dpi"])) == pytest.approx((300, 150), abs=0.02)


# --- PNG ------------------------------------------------------------------------------------


def chunks_of(path):
    data, offset = path.read_bytes(), 8
    while offset < len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        yield data[offset : offset + 12 + length], name
        offset += 12 + length


KEPT = [
    chunk(b"gAMA", struct.pack(">I", 45455)),
    chunk(b"cHRM", struct.pack(">8I", *range(31270, 31278))),
    chunk(b"iCCP", b"name of mine\0\0" + zlib.compress(ICC, 1)),
    chunk(b"cICP", b"\x09\x10\0\1"),
    chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
    chunk(b"eXIf", some_exif(">")),
    chunk(b"tEXt", b"Comment\0first"),
    chunk(b"tEXt", b"Comment\0second"),
    chunk(b"zTXt", b"Long\0\0" + zlib.compress(b"text " * 50, 1)),
    chunk(b"iTXt", "Title\0\0\0de\0Titel\0Grüße".encode()),
    chunk(b"prVt", b"private, safe to copy"),
]
KEPT_AFTER = [chunk(b"tIME", b"\x07\xe8\2\x1d\x0c\0\0"), chunk(b"tEXt", b"Author\0last")]
UNTRUE = [chunk(b"sBIT", b"\5\6\5"), chunk(b"bKGD", bytes(6)), chunk(b"prVT", b"unsafe to copy")]


def test_png_chunks_are_kept_byte_for_byte(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(2, 1, 8, 2, bytes(range(7)), KEPT + UNTRUE, KEPT_AFTER))
    image = io.read(path)
    assert (image.metadata.icc, image.metadata.exif) == (ICC, some_exif(">"))
    assert image.metadata.orientation == 6
    io.write(tmp_path / "b.png", image)
    found = [data for data, name in chunks_of(tmp_path / "b.png")]
    start = next(i for i, data in enumerate(found) if data[4:8] == b"IDAT")
    assert found[1:start] == KEPT
    assert found[-3:-1] == KEPT_AFTER


@pytest.mark.parametrize("name", SMALL_PNGS)
def test_png_of_few_bits_palette_or_transparency(tmp_path, name):
    data, expected = SMALL_PNGS[name]
    (tmp_path / "a.png").write_bytes(data)
    image = io.read(tmp_path / "a.png")
    assert image.samples.dtype == np.uint8
    np.testing.assert_array_equal(image.samples, expected)
    assert_same(round_trip(tmp_path, image, ".png"), image)
    names = {name for _, name in chunks_of(tmp_path / "out.png")}
    assert not names & {b"tRNS", b"PLTE"}


@pytest.mark.parametrize("size", [(11, 13), (1, 1), (2, 9), (5, 3)])
@pytest.mark.parametrize(("colors", "color_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
@pytest.mark.parametrize("depth", [8, 16])
def test_interlaced_png(tmp_path, capfd, size, colors, color_type, depth):
    rng = np.random.default_rng(3)
    samples = rng.integers(0, 1 << depth, (*size, colors)).astype(f">u{depth // 8}")
    rows = interlaced_rows(samples)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(size[1], size[0], depth, color_type, rows, interlaced=1))
    np.testing.assert_array_equal(
        io.read(path).samples, samples.squeeze(2) if colors == 1 else samples
    )
    assert capfd.readouterr() == ("", "")  # libpng has a voice of its own


def test_animated_png_is_refused(tmp_path):
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    (tmp_path / "a.png").write_bytes(png_bytes(2, 1, 8, 0, bytes(3), [control]))
    with pytest.raises(UnreadableImage, match="animated"):
        io.read(tmp_path / "a.png")


# --- JPEG -----------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [30, 90, 99])
def test_jpeg_is_written_no_coarser_than_it_was_read(tmp_path, quality):
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(quality=quality, subsampling=2))
    io.write(tmp_path / "b.jpg", io.read(tmp_path / "a.jpg"))
    (tmp_path / "c.jpg").write_bytes(jpeg_bytes(quality=95))
    a, b, c = (Pillow.open(tmp_path / f"{name}.jpg") for name in "abc")
    for table in (0, 1):
        finest = np.minimum(a.quantization[table], c.quantization[table])
        np.testing.assert_array_equal(b.quantization[table], finest)
    assert {(layer[1], layer[2]) for layer in b.layer} == {(1, 1)}  # no chroma subsampling
    for opened in (a, b, c):
        opened.close()


def test_jpeg_keeps_its_other_segments_byte_for_byte(tmp_path):
    data = jpeg_bytes(dpi=(300, 200), exif=b"Exif\0\0" + some_exif(), icc_profile=ICC)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
    extra = [(0xE1, xmp), (0xED, b"Photoshop 3.0\0" + bytes(20)), (0xFE, b"a comment")]
    untrue = [(0xE2, b"MPF\0" + bytes(30)), (0xE0, b"JFXX\0" + bytes(30))]
    inserted = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
        for marker, content in extra + untrue
    )
    (tmp_path / "a.jpg").write_bytes(data[:20] + inserted + data[20:])  # after JFIF
    image = io.read(tmp_path / "a.jpg")
    assert (image.metadata.icc, image.metadata.exif) == (ICC, some_exif())
    io.write(tmp_path / "b.jpg", image)
    found = (tmp_path / "b.jpg").read_bytes()
    assert found[:20] == data[:20]
    for _, content in extra:
        assert found.count(content) == 1
    assert b"MPF\0" not in found
    assert b"JFXX\0" not in found


def test_a_jpeg_of_pure_noise_is_written(tmp_path, capfd):
    samples = np.random.default_rng(4).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    Pillow.fromarray(samples).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    image = io.read(tmp_path / "a.jpg")
    found = round_trip(tmp_path, image, ".jpg")
    assert np.abs(found.samples.astype(int) - image.samples).max() <= 4
    assert capfd.readouterr() == ("", "")


def test_exif_too_large_for_jpeg_is_refused(tmp_path):
    blob = exif.build({37500: exif.Field(7, bytes(70000))})
    with pytest.raises(UnwritableOutput, match=r"EXIF.*\.png or \.tif"):
        io.write(tmp_path / "a.jpg", picture(exif=blob))


# --- TIFF -----------------------------------------------------------------------------------


KEPT_LAYOUT = ["compression", "predictor", "planarconfig", "extrasamples", "photometric"]
KEPT_LAYOUT += ["is_tiled", "tilewidth", "tilelength", "rowsperstrip"]


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [None, "assocalpha", "unassalpha", "unspecified"])
@pytest.mark.parametrize(
    "packing",
    [
        {},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "tile": (16, 32)},
        {"compression": "packbits", "rowsperstrip": 5},
    ],
    ids=["plain", "lzw", "tiles", "packbits"],
)
@pytest.mark.parametrize("order", "<>")
def test_tiff_layout_is_kept(tmp_path, planar, alpha, packing, order):
    image = picture("rgba" if alpha else "rgb", "uint16")
    stored = np.moveaxis(image.samples, -1, 0) if planar == "separate" else image.samples
    path = tmp_path / "a.tif"
    options = {"extrasamples": [alpha]} if alpha else {}
    tifffile.imwrite(
        path, stored, photometric="rgb", planarconfig=planar, byteorder=order, **options, **packing
    )
    found = io.read(path)
    assert_same(found, image)
    assert_same(round_trip(tmp_path, found, ".tif"), image)
    with tifffile.TiffFile(path) as a, tifffile.TiffFile(tmp_path / "out.tif") as b:
        assert a.byteorder == b.byteorder
        for name in KEPT_LAYOUT:
            assert getattr(a.pages[0], name) == getattr(b.pages[0], name), name


def test_tags_of_a_tiff_are_kept(tmp_path):
    path = tmp_path / "a.tif"
    tags = [
        (269, 2, None, "slide.svs", True),
        (271, 2, None, "Maker", True),
        (274, 3, 1, 3, True),
        (700, 1, 9, b"<x:xmp/>\0", True),
        (33432, 2, None, "(c) someone", True),
        (33723, 7, 13, b"IPTC of some.", True),
        (65000, 12, 3, (1.5, 2.5, -3.0), True),
        (65001, 16, 1, 2**40, True),
    ]
    tifffile.imwrite(
        path,
        picture().samples,
        photometric="rgb",
        byteorder=">",
        bigtiff=True,
        description="a picture of mine",
        software="scanner 1.0",
        datetime="2024:02:29 12:00:00",
        resolution=((601, 2), (2997, 10)),
        resolutionunit=3,
        iccprofile=ICC,
        extratags=tags,
        metadata=None,
    )
    image = io.read(path)
    assert (image.metadata.icc, image.metadata.orientation) == (ICC, 3)
    assert_same(round_trip(tmp_path, image, ".tif"), image)
    with tifffile.TiffFile(path) as a, tifffile.TiffFile(tmp_path / "out.tif") as b:
        for tag in a.pages[0].tags:
            if tag.name not in ("StripOffsets", "StripByteCounts"):
                assert b.pages[0].tags[tag.code].value == tag.value, tag


STACKS = {
    "imagej": ("TZCYX", {"imagej": True}),
    "ome": ("TCYX", {"ome": True}),
    "shaped": ("ZYX", {}),
    "imagej rgb": ("ZYXS", {"imagej": True}),
}


@pytest.mark.parametrize("kind", STACKS)
def test_stacks_keep_their_axes_and_description(tmp_path, kind):
    axes, options = STACKS[kind]
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 21, "X": 34, "S": 3}
    shape = [sizes[letter] for letter in axes]
    dtype = np.uint8 if "S" in axes else np.uint16  # all that ImageJ has for RGB
    samples = np.random.default_rng(5).integers(0, 255, shape).astype(dtype)
    path = tmp_path / "a.tif"
    photometric = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(path, samples, metadata={"axes": axes}, photometric=photometric, **options)
    image = io.read(path)
    assert_same(image, Image(samples, axes))
    assert_same(round_trip(tmp_path, image, ".tif"), image)
    with tifffile.TiffFile(path) as a, tifffile.TiffFile(tmp_path / "out.tif") as b:
        assert a.pages[0].description == b.pages[0].description
        assert (a.is_imagej, a.is_ome, len(a.pages)) == (b.is_imagej, b.is_ome, len(b.pages))


@pytest.mark.parametrize("axes", ["ZYX", "TCYX", "TYXS"])
def test_a_stack_from_memory_keeps_its_axes(tmp_path, axes):
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 21, "X": 34, "S": 3}
    samples = np.zeros([sizes[letter] for letter in axes], np.uint16)
    assert_same(round_trip(tmp_path, Image(samples, axes), ".tif"), Image(samples, axes))


def test_channels_in_a_pixel_are_no_color(tmp_path):
    samples = picture("rgb").samples
    for planar, stored in (("contig", samples), ("separate", np.moveaxis(samples, -1, 0))):
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planar)
        image = io.read(tmp_path / "a.tif")
        assert_same(image, Image(samples, "YXC"))
        assert_same(round_trip(tmp_path, image, ".tif"), image)


def test_palette_bilevel_and_inverted_tiff(tmp_path):
    indices = picture("gray").samples
    colors = np.random.default_rng(6).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colors)
    image = io.read(tmp_path / "a.tif")
    assert_same(image, Image((colors // 257).astype(np.uint8).T[indices], "YXS"))
    assert_same(round_trip(tmp_path, image, ".tif"), image)

    tifffile.imwrite(tmp_path / "b.tif", indices > 99)
    assert_same(io.read(tmp_path / "b.tif"), Image((indices > 99).astype(np.uint8) * 255, "YX"))

    tifffile.imwrite(tmp_path / "c.tif", indices, photometric="miniswhite")
    assert_same(round_trip(tmp_path, io.read(tmp_path / "c.tif"), ".tif"), Image(indices, "YX"))
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE


def test_a_lossy_tiff_is_not_compressed_lossy_again(tmp_path):
    samples = picture("rgb").samples[:16, :32]
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", compression="jpeg")
    image = io.read(tmp_path / "a.tif")
    assert_same(round_trip(tmp_path, image, ".tif"), image)


def test_a_reduced_picture_in_the_file_is_passed_over(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((4, 4), np.uint8), subfiletype=1, metadata=None)
        tif.write(picture("gray").samples, metadata=None)
    assert_same(io.read(tmp_path / "a.tif"), picture("gray"))
