"""Every format gives back what it was given: pixels, axes, type, profile, and what else it holds.

One table: each file is made and looked at by the library that others use for its format, and goes
through a denoiser of strength 0, which changes nothing.
"""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow, ImageCms, ImageSequence, PngImagePlugin
from test_io import chunk, png_bytes, some_exif

from denoise_cli import Denoiser, io
from denoise_cli.errors import UnreadableImage, UnwritableOutput, UsageError
from denoise_cli.image import Image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZES = {"T": 3, "Z": 2, "C": 2, "Y": 34, "X": 45}


@pytest.fixture(scope="module")
def pass_through():
    """Send a file through a denoiser that gives its input back."""
    denoiser = Denoiser("none", strength=0)

    def run(source, target, **options):
        with io.open_stack(source) as stack:
            denoiser.stream(stack, lambda denoised: io.write(target, denoised), **options)
        return target

    return run


def noise(axes, dtype, colors=3, largest=None):
    """A smooth pattern with noise, which lossy formats can hold as well."""
    shape = [colors if letter == "S" else SIZES[letter] for letter in axes]
    rng = np.random.default_rng(7)
    values = rng.normal(0.5, 0.02, shape)
    values += 0.3 * np.sin(np.arange(SIZES["X"]) / 9).reshape((-1, 1) if axes[-1] == "S" else -1)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    low, high = np.iinfo(dtype).min / 2, largest or np.iinfo(dtype).max
    return (low + values * (high - low)).astype(dtype)


def by_pillow(path):
    """All that Pillow sees of a file."""
    with Pillow.open(path) as opened:
        frames = [np.array(frame) for frame in ImageSequence.Iterator(opened)]
        info = {k: opened.info.get(k) for k in ("icc_profile", "xmp", "dpi", "duration", "loop")}
        exif = {k: v for k, v in opened.getexif().items() if not isinstance(v, int) or k == 274}
        camera = dict(opened.getexif().get_ifd(34665))
        return {"pixels": np.stack(frames), "mode": opened.mode, "exif": (exif, camera), **info}


def durations(path):
    with Pillow.open(path) as opened:
        frames = [frame.copy() for frame in ImageSequence.Iterator(opened)]
        return [frame.info["duration"] for frame in frames]


def assert_equal(found, expected, tolerance=0):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
            np.testing.assert_allclose(
                found[key].astype(float), value.astype(float), atol=tolerance, err_msg=key
            )
        else:
            assert found[key] == value, key


# --- pictures ---------------------------------------------------------------------------------

COLORS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
TAGGED = {"icc_profile": PROFILE, "exif": some_exif(orientation=6)}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
# (suffix, mode, what is saved along, the most that a sample may be off)
PICTURES = [
    *((".png", mode, TAGGED, 0) for mode in COLORS),
    (".jpg", "L", TAGGED, 8),
    (".jpg", "RGB", TAGGED, 12),
    *((".tif", mode, {"icc_profile": PROFILE, "dpi": (300, 300)}, 0) for mode in ("L", "RGB")),
    *((".webp", mode, TAGGED | {"xmp": XMP, "lossless": True}, 0) for mode in ("RGB", "RGBA")),
    *((".avif", mode, TAGGED | {"xmp": XMP}, 12) for mode in ("L", "RGB", "RGBA")),
    *((".bmp", mode, {"dpi": (300, 300)}, 0) for mode in ("L", "RGB", "RGBA")),
]


@pytest.mark.parametrize(("suffix", "mode", "saved", "tolerance"), PICTURES)
def test_a_picture(tmp_path, pass_through, suffix, mode, saved, tolerance):
    colors = COLORS[mode]
    samples = noise("YX" if colors == 1 else "YXS", np.uint8, colors)
    source = tmp_path / f"a{suffix}"
    Pillow.fromarray(samples).save(source, **saved)
    target = pass_through(source, tmp_path / f"b{suffix}")
    found, expected = by_pillow(target), by_pillow(source)
    assert_equal(found, expected, tolerance)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_animation(tmp_path, pass_through, suffix, mode):
    if (suffix, mode) == (".webp", "L"):
        pytest.skip("WebP has no gray")
    samples = noise("TYX" if mode == "L" else "TYXS", np.uint8, COLORS[mode])
    first, *others = (Pillow.fromarray(frame) for frame in samples)
    source = tmp_path / f"a{suffix}"
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    first.save(
        source, save_all=True, append_images=others, duration=[70, 80, 90], loop=4, **options
    )
    with io.open_stack(source) as stack:
        assert stack.axes == "T" + "YX" + "S" * (mode != "L")
    target = pass_through(source, tmp_path / f"b{suffix}")
    assert_equal(by_pillow(target), by_pillow(source))
    assert durations(target) == [70, 80, 90]
    np.testing.assert_array_equal(io.read(target).samples, samples)


def test_an_animated_png_keeps_its_chunks(tmp_path, pass_through):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "someone")
    frames = [Pillow.fromarray(frame) for frame in noise("TYX", np.uint8)]
    frames[0].save(
        tmp_path / "a.png",
        save_all=True,
        append_images=frames[1:],
        pnginfo=text,
        icc_profile=PROFILE,
    )
    with Pillow.open(pass_through(tmp_path / "a.png", tmp_path / "b.png")) as opened:
        assert opened.text == {"Author": "someone"}
        assert opened.info["icc_profile"] == PROFILE


def test_a_gif_is_read_and_written_as_animated_png_or_webp(tmp_path, pass_through):
    first, *others = (Pillow.fromarray(f).quantize(64) for f in noise("TYXS", np.uint8, 3))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[50, 60, 70])
    samples = io.read(tmp_path / "a.gif").samples
    for suffix in (".png", ".webp"):
        target = pass_through(tmp_path / "a.gif", tmp_path / f"b{suffix}")
        np.testing.assert_array_equal(by_pillow(target)["pixels"][..., :3], samples)
        assert durations(target) == [50, 60, 70]
    with pytest.raises(UsageError, match=r"256 colors.*\.png or \.webp"):
        io.check_output(tmp_path / "b.gif")


def test_gray_gif_is_gray(tmp_path):
    Pillow.fromarray(noise("YX", np.uint8)).save(tmp_path / "a.gif")
    assert io.read(tmp_path / "a.gif").axes == "YX"


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".bmp", ".heic"])
def test_sixteen_bits_are_never_cut_to_eight(tmp_path, suffix):
    if suffix == ".heic":
        pytest.importorskip("pillow_heif", reason='the extra "heif"')
    image = Image(noise("YXS", np.uint16), "YXS")
    try:
        io.write(tmp_path / f"a{suffix}", image)
    except UnwritableOutput as error:
        assert ".png" in str(error)  # noqa: PT017
    else:
        found = io.read(tmp_path / f"a{suffix}").samples
        assert found.dtype == np.uint16
        assert np.abs(found.astype(int) - image.samples).mean() < 0.01 * 65535


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("axes", ["YX", "YXS"])
def test_avif_of_ten_and_twelve_bits(tmp_path, pass_through, depth, axes):
    import imagecodecs

    samples = noise(axes, np.uint16, largest=(1 << depth) - 1)
    encoded = imagecodecs.avif_encode(
        samples, level=100, bitspersample=depth, primaries=9, transfer=16
    )
    (tmp_path / "a.avif").write_bytes(encoded)
    image = io.read(tmp_path / "a.avif")
    np.testing.assert_allclose(image.samples / 65535, samples / ((1 << depth) - 1), atol=1e-4)
    target = pass_through(tmp_path / "a.avif", tmp_path / "b.avif").read_bytes()
    found = imagecodecs.avif_decode(target)
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found.astype(float), samples, atol=0.02 * (1 << depth))
    assert found.max() < 1 << depth
    # BT.2020 and PQ: without them the picture would be shown in other colors.
    assert b"colrnclx" + struct.pack(">HH", 9, 16) in target


def test_avif_of_eight_bits_keeps_its_primaries(tmp_path, pass_through):
    import imagecodecs

    samples = noise("YXS", np.uint8)
    encoded = imagecodecs.avif_encode(samples, level=100, primaries=12, transfer=13)
    (tmp_path / "a.avif").write_bytes(encoded)
    target = pass_through(tmp_path / "a.avif", tmp_path / "b.avif")
    assert b"colrnclx" + struct.pack(">HH", 12, 13) in target.read_bytes()


@pytest.mark.parametrize(("mode", "depth"), [("L", 8), ("RGB", 8), ("RGBA", 8), ("RGB", 10)])
def test_heic(tmp_path, pass_through, mode, depth):
    pillow_heif = pytest.importorskip("pillow_heif", reason='the extra "heif"')
    kind = np.uint8 if depth == 8 else np.uint16
    samples = noise("YX" if mode == "L" else "YXS", kind, COLORS[mode])
    source = tmp_path / "a.heic"
    pillow_heif.encode(
        mode + (";16" if depth > 8 else ""),
        (SIZES["X"], SIZES["Y"]),
        samples.tobytes(),
        source,
        quality=95,
        chroma=444,
        exif=b"Exif\0\0" + some_exif(orientation=1),
        icc_profile=PROFILE,
        xmp=XMP,
    )

    def by_heif(path):
        found = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
        keys = ("exif", "xmp", "icc_profile", "bit_depth", "chroma")
        return {"pixels": np.array(found), **{key: found.info.get(key) for key in keys}}

    target = pass_through(source, tmp_path / "b.heic")
    assert_equal(by_heif(target), by_heif(source), 0.04 * np.iinfo(kind).max)
    assert by_heif(target)["bit_depth"] == depth


PNM = [
    (".pgm", "P5", "YX", "u1", 255),
    (".pgm", "P5", "YX", "u1", 63),
    (".pgm", "P5", "YX", ">u2", 4095),
    (".pgm", "P5", "YX", ">u2", 65535),
    (".ppm", "P6", "YXS", "u1", 255),
    (".ppm", "P6", "YXS", ">u2", 1023),
]


@pytest.mark.parametrize(("suffix", "mark", "axes", "dtype", "largest"), PNM)
def test_pnm_is_the_same_byte_for_byte(tmp_path, pass_through, suffix, mark, axes, dtype, largest):
    samples = noise(axes, np.uint16, largest=largest).astype(dtype)
    head = f"{mark}\n{SIZES['X']} {SIZES['Y']}\n{largest}\n".encode()
    (tmp_path / f"a{suffix}").write_bytes(head + samples.tobytes())
    image = io.read(tmp_path / f"a{suffix}")
    assert image.samples.dtype == (np.uint8 if largest < 256 else np.uint16)
    np.testing.assert_allclose(
        image.samples / np.iinfo(image.samples.dtype).max, samples / largest, atol=0.002
    )
    target = pass_through(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    assert target.read_bytes() == head + samples.tobytes()


@pytest.mark.parametrize(("order", "scale"), [("<f4", b"-1.0"), (">f4", b"2.5")])
@pytest.mark.parametrize(("mark", "axes"), [(b"Pf", "YX"), (b"PF", "YXS")])
def test_pfm(tmp_path, pass_through, mark, axes, order, scale):
    samples = noise(axes, np.float32)
    head = mark + b"\n%d %d\n" % (SIZES["X"], SIZES["Y"]) + scale + b"\n"
    (tmp_path / "a.pfm").write_bytes(head + samples[::-1].astype(order).tobytes())
    np.testing.assert_array_equal(io.read(tmp_path / "a.pfm").samples, samples)
    found = io.read(pass_through(tmp_path / "a.pfm", tmp_path / "b.pfm"))
    np.testing.assert_array_equal(found.samples, samples)
    assert abs(found.metadata.native["largest"]) == abs(float(scale))


@pytest.mark.parametrize("colors", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pam(tmp_path, pass_through, colors, dtype):
    samples = noise("YX" if colors == 1 else "YXS", dtype, colors)
    io.write(tmp_path / "a.pam", Image(samples, "YX" if colors == 1 else "YXS"))
    target = pass_through(tmp_path / "a.pam", tmp_path / "b.pam")
    assert target.read_bytes() == (tmp_path / "a.pam").read_bytes()
    np.testing.assert_array_equal(io.read(target).samples, samples)


def test_text_and_bit_forms_of_pnm(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P2 # a comment\n3 2\n15\n0 5 10\n15 1 2\n")
    np.testing.assert_array_equal(
        io.read(tmp_path / "a.pgm").samples, [[0, 85, 170], [255, 17, 34]]
    )
    (tmp_path / "a.pbm").write_bytes(b"P1\n3 2\n101\n0 1 0\n")
    (tmp_path / "b.pbm").write_bytes(b"P4\n3 2\n\xa0\x40")
    for name in ("a.pbm", "b.pbm"):
        found = io.read(tmp_path / name).samples
        np.testing.assert_array_equal(found, [[0, 255, 0], [255, 0, 255]])


@pytest.mark.parametrize(
    "content",
    [b"P5\n3 3\n255\n12", b"P5\n3 3\n", b"P2\n2 1\n9\n4 10\n", b"P7\nWIDTH 3\n", b"Pf\n3 3\n-1\n1"],
)
def test_a_damaged_pnm_is_refused(tmp_path, content):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"damaged|truncated|not read"):
        io.read(tmp_path / "a.pgm")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("names", ["Y", "YA", "RGB", "RGBA"])
def test_exr(tmp_path, pass_through, capfd, dtype, names):
    OpenEXR = pytest.importorskip("OpenEXR", reason='the extra "exr"')
    planes = {name: noise("YX", dtype) * (n + 1) for n, name in enumerate(names)}
    planes["depth.Z"] = np.arange(34 * 45, dtype=np.float32).reshape(34, 45)
    header = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.PIZ_COMPRESSION,
        "owner": "someone",
        "whiteLuminance": 100.0,
    }
    OpenEXR.File(header, planes).write(str(tmp_path / "a.exr"))

    def by_openexr(path):
        with OpenEXR.File(str(path), separate_channels=True) as file:
            kept = {key: str(value) for key, value in file.header().items() if key != "channels"}
            return {**kept, **{n: c.pixels.copy() for n, c in file.channels().items()}}

    target = pass_through(tmp_path / "a.exr", tmp_path / "b.exr")
    assert_equal(by_openexr(target), by_openexr(tmp_path / "a.exr"))
    (tmp_path / "c.exr").write_bytes((tmp_path / "a.exr").read_bytes()[:900])
    with pytest.raises(UnreadableImage):
        io.read(tmp_path / "c.exr")
    assert capfd.readouterr() == ("", "")


# --- DICOM ------------------------------------------------------------------------------------


def write_dicom(path, samples, *, bits, photometric="MONOCHROME2", frames=1):
    pydicom = pytest.importorskip("pydicom", reason='the extra "dicom"')
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3.4"
    dataset.PatientName, dataset.Modality = "Nobody^No", "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PixelSpacing, dataset.RescaleIntercept = [0.5, 0.5], -1024
    dataset.Rows, dataset.Columns = SIZES["Y"], SIZES["X"]
    dataset.SamplesPerPixel = 3 if photometric == "RGB" else 1
    if photometric == "RGB":
        dataset.PlanarConfiguration = 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored = samples.dtype.itemsize * 8, bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(samples.dtype.kind == "i")
    dataset.PixelData = samples.tobytes()
    dataset["PixelData"].VR = "OW" if samples.itemsize == 2 else "OB"
    dataset.save_as(path, enforce_file_format=True)


DICOM = [
    ("YX", "uint16", 12, "MONOCHROME2"),
    ("YX", "int16", 16, "MONOCHROME1"),
    ("YX", "uint8", 8, "MONOCHROME2"),
    ("YXS", "uint8", 8, "RGB"),
    ("TYX", "int16", 12, "MONOCHROME2"),
    ("TYXS", "uint8", 8, "RGB"),
]


@pytest.mark.parametrize(("axes", "dtype", "bits", "photometric"), DICOM)
def test_dicom(tmp_path, pass_through, axes, dtype, bits, photometric):
    pydicom = pytest.importorskip("pydicom", reason='the extra "dicom"')
    largest = (1 << (bits - (dtype == "int16"))) - 1
    samples = noise(axes, dtype, largest=largest)
    samples = np.maximum(samples, -largest - 1) if dtype == "int16" else samples
    frames = SIZES["T"] if "T" in axes else 1
    write_dicom(tmp_path / "a.dcm", samples, bits=bits, photometric=photometric, frames=frames)
    image = io.read(tmp_path / "a.dcm")
    assert image.axes == axes
    np.testing.assert_array_equal(image.samples, samples)
    target = pass_through(tmp_path / "a.dcm", tmp_path / "b.dcm")
    before, after = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(target)
    np.testing.assert_array_equal(after.pixel_array, before.pixel_array)
    changed = {"SOPInstanceUID", "ImageType", "DerivationDescription", "PixelData"}
    for element in before:
        if element.keyword not in changed:
            assert after[element.keyword].value == element.value
    # Another picture than the source, and marked so.
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.ImageType == ["DERIVED", "PRIMARY", "AXIAL"]
    assert after.DerivationDescription == "denoised"


def test_dicom_samples_stay_within_their_bits(tmp_path):
    pytest.importorskip("pydicom", reason='the extra "dicom"')
    write_dicom(tmp_path / "a.dcm", noise("YX", "uint16", largest=4095), bits=12)
    image = io.read(tmp_path / "a.dcm")
    brighter = Image(np.full_like(image.samples, 5000), image.axes, image.metadata)
    io.write(tmp_path / "b.dcm", brighter)
    assert io.read(tmp_path / "b.dcm").samples.max() == 4095


def test_dicom_is_made_of_dicom_only(tmp_path):
    pytest.importorskip("pydicom", reason='the extra "dicom"')
    with pytest.raises(UnwritableOutput, match=r"only from DICOM.*\.tif"):
        io.write(tmp_path / "a.dcm", Image(noise("YX", np.uint16), "YX"))


# --- what is missing or odd --------------------------------------------------------------------


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.exr").write_bytes(b"v/1\x01" + bytes(200))
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(UnreadableImage, match=r'pip install "denoise-cli\[exr\]"'):
        io.read(tmp_path / "a.exr")


def test_an_animated_png_of_sixteen_bits_is_refused(tmp_path):
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    data = png_bytes(1, 1, 16, 0, bytes(3), [control])
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnreadableImage, match="animated PNG of 16 bits"):
        io.read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".bmp", ".pgm"])
def test_a_profile_is_not_dropped_in_silence(tmp_path, suffix):
    Pillow.fromarray(noise("YX", np.uint8)).save(tmp_path / "a.png", icc_profile=PROFILE)
    with pytest.raises(UnwritableOutput, match=r"profile.*\.png or \.tif"):
        io.write(tmp_path / f"b{suffix}", io.read(tmp_path / "a.png"))


def test_tifffile_sees_the_same_picture(tmp_path, pass_through):
    samples = noise("YXS", np.float32)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb")
    np.testing.assert_array_equal(
        tifffile.imread(pass_through(tmp_path / "a.tif", tmp_path / "b.tif")), samples
    )
