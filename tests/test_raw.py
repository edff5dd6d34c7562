"""Camera raw files: the mosaic in, a DNG out that renders like the original."""

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import rawpy
from PIL import Image as Pillow

from denoise_cli import Denoiser, io
from denoise_cli.cli import main
from denoise_cli.errors import UnreadableImage, UnwritableOutput, UsageError
from denoise_cli.image import Image, Metadata
from denoise_cli.io import exif
from denoise_cli.io.sensor import ASCII, BYTE, RATIONAL, SHORT, SRATIONAL, Sensor, field
from denoise_cli.mosaic import Mosaic, Noise, estimate

BAYER = {
    "RGGB": ((0, 1), (1, 2)),
    "GBRG": ((1, 2), (0, 1)),
}
X_TRANS = (
    (1, 1, 0, 1, 1, 2),
    (1, 1, 2, 1, 1, 0),
    (2, 0, 1, 0, 2, 1),
    (1, 1, 2, 1, 1, 0),
    (1, 1, 0, 1, 1, 2),
    (0, 2, 1, 2, 0, 1),
)
PATTERNS = {**BAYER, "X-Trans": X_TRANS}

WHITE, BLACK = 4095, 256
MATRIX = (0.4716, 0.0603, -0.083, -0.7798, 1.5474, 0.248, -0.1496, 0.1937, 0.6651)
NEUTRAL = (0.5, 1.0, 0.625)
NOISE = Noise(shot=8.0, read=100.0)


def repeated(pattern, shape):
    rows, columns = np.shape(pattern)
    return np.tile(pattern, (-(-shape[0] // rows), -(-shape[1] // columns)))[: shape[0], : shape[1]]


def scene(shape):
    """A smooth picture of three colors with edges, on 0..1."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    light = 0.12 + 0.3 * x + 0.15 * np.sin(9 * y) ** 2 + 0.15 * (np.hypot(x - 0.5, y - 0.4) < 0.2)
    return np.stack([light * 0.5, light, light * (0.4 + 0.3 * y)], axis=-1)


def mosaic_of(pattern, shape, *, black=BLACK, noise=NOISE, seed=0):
    """The noisy and the clean mosaic of the scene, above no black level."""
    colors = repeated(pattern, shape)
    clean = np.take_along_axis(scene(shape), colors[..., None], axis=2)[..., 0] * (WHITE - BLACK)
    deviation = np.sqrt(noise.shot * clean + noise.read)
    noisy = clean + deviation * np.random.default_rng(seed).standard_normal(shape)
    return np.clip(np.rint(noisy + black), 0, 65535).astype(np.uint16), clean


def raw_image(pattern="RGGB", shape=(96, 144), *, flip=0, levels=None, margins=(0, 0)):
    """A picture as reading a camera raw file gives it."""
    colors = PATTERNS[pattern]
    black = levels or tuple((float(BLACK),) * len(colors[0]) for _ in colors)
    top, left = margins
    area = (top, left, shape[0] - top, shape[1] - left)
    samples = np.full(shape, BLACK, np.uint16)
    inside, _ = mosaic_of(colors, area[2:], black=repeated(black, area[2:]))
    samples[top:, left:] = inside
    tags = {
        271: field(ASCII, "Ajax"),
        272: field(ASCII, "Ajax One"),
        305: field(ASCII, "firmware 3"),
        306: field(ASCII, "2024:05:06 07:08:09"),
        50706: field(BYTE, 1, 4, 0, 0),
        50707: field(BYTE, 1, 1, 0, 0),
        50708: field(ASCII, "Ajax One"),
        50721: field(SRATIONAL, *MATRIX),
        50728: field(RATIONAL, *NEUTRAL),
        50778: field(SHORT, 21),
        exif.EXIF_POINTER: exif.Field(
            exif.LONG,
            children={
                33434: field(RATIONAL, 0.01),
                33437: field(RATIONAL, 2.8),
                34855: field(SHORT, 3200),
                36867: field(ASCII, "2024:05:06 07:08:09"),
                42036: field(ASCII, "Ajax 50mm"),
                37500: exif.Field(7, b"private notes of the camera"),
            },
        ),
    }
    mosaic = Mosaic(colors, black, float(WHITE), area)
    matrix = np.zeros((3, 3))
    balance = (1 / NEUTRAL[0], 1.0, 1 / NEUTRAL[2], 0.0)
    sensor = Sensor(mosaic, flip, balance, matrix, tags)
    return Image(samples, "YX", Metadata(format="dng", native={"sensor": sensor}, view=mosaic))


@pytest.fixture
def dng(tmp_path):
    def make(name="shot.dng", **options):
        path = tmp_path / name
        io.write(path, raw_image(**options))
        return path

    return make


def call(*args):
    with pytest.raises(SystemExit) as exit_:
        main([str(arg) for arg in args])
    return exit_.value.code


def rendered(path):
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, output_bps=16, adjust_maximum_thr=0.0
        )


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("flip", [0, 6])
def test_what_is_written_is_read_back_and_renders_the_same(dng, tmp_path, pattern, flip):
    # LibRaw interpolates X-Trans in squares of 512 only.
    shape = (516, 522) if pattern == "X-Trans" else (96, 144)
    first = dng(pattern=pattern, shape=shape, flip=flip)
    image = io.read(first)
    made = raw_image(pattern, shape, flip=flip)
    assert np.array_equal(image.samples, made.samples)
    assert image.metadata.view == made.metadata.view
    assert image.metadata.orientation == {0: 1, 6: 6}[flip]
    again = tmp_path / "again.dng"
    io.write(again, image)
    assert np.array_equal(rendered(first), rendered(again))
    with rawpy.imread(str(again)) as raw:
        assert raw.white_level == WHITE
        assert raw.sizes.flip == flip
        balance = np.array(raw.camera_whitebalance[:3])
        np.testing.assert_allclose(balance[1] / balance, NEUTRAL, rtol=1e-5)


def test_levels_of_each_channel_and_margins_are_kept(dng):
    levels = ((100.0, 120.0), (140.0, 160.0))
    path = dng(levels=levels, margins=(4, 6))
    mosaic = io.read(path).metadata.view
    assert mosaic.black == levels
    assert mosaic.area == (4, 6, 92, 138)


def test_tags_are_kept_and_say_that_it_was_denoised(dng, tmp_path):
    again = tmp_path / "again.dng"
    io.write(again, io.read(dng(flip=3)))
    tags = exif.parse(again.read_bytes())
    made = raw_image(flip=3).metadata.native["sensor"].tags
    for code in (271, 272, 305, 306, 50708, 50721, 50728, 50778):
        assert tags[code] == made[code]
    assert tags[50935].numbers() == [(1, 1)]  # NoiseReductionApplied
    assert tags[274].numbers() == [3]
    children = tags[exif.EXIF_POINTER].children
    assert children[34855].numbers() == [3200]
    assert children[42036].value == b"Ajax 50mm\0"
    assert b"denoise" in children[37395].value  # ImageHistory
    assert 37500 not in children  # its offsets would mislead


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(60, 90), (61, 83), (7, 9)])
def test_the_view_is_undone_exactly(pattern, shape):
    image = raw_image(pattern, shape)
    image.samples[0, :5] = (0, 10, WHITE - 1, WHITE, 65535)
    view = image.metadata.view
    seen, axes = view.forward(image.samples)
    assert (seen.dtype, axes, seen.shape) == (np.float32, "YX", shape)
    assert np.array_equal(view.inverse(image.samples, seen), image.samples)


def test_strength_zero_changes_no_sample(dng, tmp_path, tiny):
    path, out = dng(), tmp_path / "out.dng"
    assert call(path, "-o", out, "-m", "none", "-w", tiny, "--strength", 0, "-q") == 0
    assert np.array_equal(io.read(out).samples, io.read(path).samples)
    assert np.array_equal(rendered(path), rendered(out))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_noise_goes_and_the_mean_of_each_color_stays(pattern):
    image = raw_image(pattern, (240, 240))
    _, clean = mosaic_of(PATTERNS[pattern], (240, 240))
    view = replace(image.metadata.view, noise=NOISE)
    denoiser = Denoiser("none", device="cpu", precision="fp32")
    denoised = denoiser.run(image.samples, view=view).samples
    assert denoised.dtype == np.uint16
    before, after = (samples.astype(float) - BLACK - clean for samples in (image.samples, denoised))
    assert np.square(after).mean() < 0.25 * np.square(before).mean()
    colors = repeated(PATTERNS[pattern], clean.shape)
    for color in range(3):
        there = colors == color
        shift = (denoised[there].mean() - image.samples[there].mean()) / clean[there].mean()
        assert abs(shift) < 0.005


def test_stabilized_noise_is_even_and_its_mean_comes_back():
    """Also where read noise rules; the mean is what a perfect denoiser would find."""
    generator = np.random.default_rng(0)
    for level in (0.0, 5.0, 40.0, 600.0, 3500.0):
        deviation = np.sqrt(NOISE.shot * level + NOISE.read)
        samples = level + deviation * generator.standard_normal(400_000)
        values = NOISE.stabilize(samples)
        assert 0.75 < values.std() < 1.1
        mean = values.mean()
        back = NOISE.algebraic_inverse(mean) + NOISE.bias(mean)
        assert abs(back - level) < 5 * deviation / np.sqrt(samples.size)
        np.testing.assert_allclose(NOISE.algebraic_inverse(values), samples, atol=1e-6)


@pytest.mark.parametrize("noise", [Noise(8.0, 100.0), Noise(0.0, 400.0), Noise(20.0, 1.0)])
def test_noise_is_estimated_from_the_picture(noise):
    samples, clean = mosaic_of(BAYER["RGGB"], (480, 480), noise=noise)
    found = estimate(samples, np.full((2, 2), BLACK), WHITE)
    for level in np.quantile(clean, (0.1, 0.5, 0.9)):
        true = noise.shot * level + noise.read
        assert 0.75 * true < found.shot * level + found.read < 1.35 * true


def test_the_noise_a_dng_declares_is_used(dng, tmp_path):
    image = raw_image()
    sensor = image.metadata.native["sensor"]
    profile = exif.Field(12, np.array([0.002, 1e-5], "<f8").tobytes())
    sensor = replace(sensor, tags={**sensor.tags, 51041: profile})
    path = tmp_path / "profile.dng"
    io.write(path, replace(image, metadata=replace(image.metadata, native={"sensor": sensor})))
    found = io.read(path)
    span = WHITE - BLACK
    assert found.metadata.view.noise == Noise(0.002 * span, 1e-5 * span**2)
    again = tmp_path / "again.dng"
    io.write(again, found)
    assert 51041 not in exif.parse(again.read_bytes())  # it is no longer true


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("tif", np.uint16), ("png", np.uint16), ("jpg", np.uint8)]
)
def test_other_suffixes_develop(dng, tmp_path, tiny, suffix, dtype):
    path, out = dng(flip=6), tmp_path / f"out.{suffix}"
    assert call(path, "-o", out, "-m", "none", "-w", tiny, "--strength", 0, "-q") == 0
    picture = io.read(out)
    assert picture.samples.shape == (144, 96, 3)  # upright
    assert picture.samples.dtype == dtype
    assert picture.metadata.orientation == 1
    assert exif.parse(picture.metadata.exif)[271].value.startswith(b"Ajax")
    if dtype == np.uint16:
        assert np.array_equal(picture.samples, rendered(path))


def test_the_output_for_a_raw_file_is_a_dng(dng, tmp_path, tiny):
    path = dng("IMG_1.NEF.dng").rename(tmp_path / "IMG_1.NEF")
    assert call(path, "-m", "none", "-w", tiny, "-q") == 0
    assert io.read(tmp_path / "IMG_1_denoised.dng").metadata.format == "dng"
    assert call(tmp_path, "-o", tmp_path / "out", "-m", "none", "-w", tiny, "-q") == 0
    assert (tmp_path / "out" / "IMG_1.dng").is_file()


def test_adaptation_trace_and_json(dng, tmp_path, tiny, capsys):
    path, out = dng(shape=(160, 192)), tmp_path / "out.dng"
    options = ("-w", tiny, "--steps", 2, "-O", "crop=64", "--trace", tmp_path / "trace", "--json")
    assert call(path, "-o", out, "--device", "cpu", "--precision", "fp32", *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["shape"] == [160, 192]
    assert record["dtype"] == "uint16"
    assert any((tmp_path / "trace").iterdir())


@pytest.fixture
def pair(dng, tmp_path):
    """A raw file with black levels of its own, and its clean mosaic; the scores to be found."""
    levels, pattern = ((100.0, 120.0), (140.0, 160.0)), BAYER["RGGB"]
    path = dng(levels=levels, margins=(4, 6), shape=(96, 144))
    _, clean = mosaic_of(pattern, (92, 138))
    black = repeated(levels, clean.shape)
    samples = np.full((96, 144), 130, np.uint16)
    samples[4:, 6:] = np.rint(clean + black)
    image = io.read(path)

    def psnr(noisy):
        span = WHITE - np.mean(levels)
        error = (noisy[4:, 6:].astype(float) - samples[4:, 6:]) / span
        return -10 * np.log10(np.square(error).mean())

    io.write(tmp_path / "clean.dng", replace(image, samples=samples))
    Pillow.fromarray(samples).save(tmp_path / "clean.png")
    return path, image.samples, psnr


@pytest.mark.parametrize("suffix", ["png", "dng"])
def test_a_clean_mosaic_scores_a_raw_file(pair, tmp_path, tiny, capsys, suffix):
    """Between black and white, without margins; whatever is written."""
    path, noisy, psnr = pair
    clean = tmp_path / f"clean.{suffix}"
    for name in ("out.dng", "out.tif"):
        options = ("-m", "none", "-w", tiny, "--device", "cpu", "--precision", "fp32", "--json")
        assert call(path, "-o", tmp_path / name, "--reference", clean, *options, "-q") == 0
        record = json.loads(capsys.readouterr().out)
        assert record["psnr_input"] == pytest.approx(psnr(noisy), abs=0.1)  # of mean levels
        denoised = io.read(tmp_path / "out.dng").samples
        assert record["psnr"] == pytest.approx(psnr(denoised), abs=0.1)
        assert 0 < record["ssim"] < 1


def test_clean_mosaics_of_folders(pair, tmp_path, tiny, capsys):
    """By name, in whatever format; `evaluate` too."""
    path, noisy, psnr = pair
    for folder in ("noisy", "clean"):
        (tmp_path / folder).mkdir()
    path.rename(tmp_path / "noisy" / "shot.dng")
    (tmp_path / "clean.png").rename(tmp_path / "clean" / "shot.png")
    options = ("-m", "none", "-w", tiny, "--device", "cpu", "--precision", "fp32", "--json", "-q")
    found = ("--reference", tmp_path / "clean")
    assert call(tmp_path / "noisy", "-o", tmp_path / "out", *found, *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["psnr_input"] == pytest.approx(psnr(noisy), abs=0.1)
    folders = ("--clean", tmp_path / "clean", "--noisy", tmp_path / "noisy")
    assert call("evaluate", *folders, *options) == 0
    evaluated, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert evaluated["psnr_noisy"] == record["psnr_input"]
    assert evaluated["psnr"] == record["psnr"]


def test_a_reference_that_is_no_mosaic_is_refused(pair, tmp_path, tiny, capsys):
    path, noisy, _ = pair
    Pillow.fromarray(np.uint8(noisy >> 4)).save(tmp_path / "gray.png")
    Pillow.fromarray(noisy[4:, 6:]).save(tmp_path / "cut.png")
    for clean in ("gray.png", "cut.png"):
        reference = ("--reference", tmp_path / clean)
        assert call(path, "-o", tmp_path / "out.dng", *reference, "-m", "none", "-w", tiny) == 1
        line = capsys.readouterr().err
        assert "no clean mosaic" in line
        assert "144x96" in line
    reference = ("--reference", tmp_path / "clean.dng", "-m", "none", "-w", tiny)
    assert call(tmp_path / "cut.png", "-o", tmp_path / "out.png", *reference) == 1
    assert "is a camera raw file, the noisy image is none" in capsys.readouterr().err
    clean = ("evaluate", "--clean", tmp_path / "clean.dng", "--noise", "gaussian:25")
    assert call(*clean, "-m", "none", "-w", tiny) == 2
    assert "--noise is added to pictures" in capsys.readouterr().err
    assert not list(tmp_path.glob("out.*"))


def test_info_measures_the_noise_of_one_color(dng, capsys):
    """The pattern of the filters is no noise."""
    assert call("info", dng(shape=(480, 480)), "--json") == 0
    record = json.loads(capsys.readouterr().out)
    noise = record["noise"]
    assert record["shape"] == [480, 480]
    assert noise["impulses"] < 0.002
    assert abs(noise["across"][0]) < 0.1
    span = WHITE - BLACK
    for level in (0.2, 0.4):
        true = NOISE.shot * level / span + NOISE.read / span**2
        assert 0.7 * true < noise["shot"] * level + noise["read"] < 1.4 * true


def test_the_report_shows_a_rendering(dng, tmp_path, tiny):
    """Upright and in color, not the mosaic."""
    page = tmp_path / "page.html"
    path = dng(flip=6)
    assert call(path, "-o", tmp_path / "out.dng", "-m", "none", "-w", tiny, "--report", page) == 0
    shown = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page.read_text())
    before, after = (np.array(Pillow.open(BytesIO(base64.b64decode(text)))) for text in shown[:2])
    assert before.shape == after.shape == (144, 96, 3)
    expected = rendered(path).astype(float) / 257
    assert np.abs(before.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 3


def unclipped(path):
    """Rendered linearly, from far enough below black that noise is not cut off there."""
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            output_bps=16,
            adjust_maximum_thr=0.0,
            gamma=(1, 1),
            user_black=BLACK - 150,
        ).astype(float)


@pytest.mark.parametrize(("pattern", "flip"), [("RGGB", 0), ("GBRG", 6)])
def test_the_mean_color_of_a_rendering_stays(dng, tmp_path, pattern, flip):
    """Within 0.5 % of the light; noise goes. What black renders to is no light."""
    path, out = dng(pattern=pattern, flip=flip, shape=(320, 400)), tmp_path / "out.dng"
    assert call(path, "-o", out, "-m", "none", "--device", "cpu", "-q") == 0
    dark = raw_image(pattern, (320, 400), flip=flip)
    dark.samples[...] = BLACK
    io.write(tmp_path / "dark.dng", dark)
    black = unclipped(tmp_path / "dark.dng")
    before, after = (unclipped(name) - black for name in (path, out))
    assert (before > -black).mean() > 0.9999  # nothing was cut off
    shift = after.mean(axis=(0, 1)) / before.mean(axis=(0, 1)) - 1
    assert np.abs(shift).max() < 0.005
    rough = [np.diff(picture, axis=0).std() for picture in (before, after)]
    assert rough[1] < 0.6 * rough[0]


def test_what_cannot_be_done_is_refused_in_one_line(dng, tmp_path, capsys, tiny):
    path = dng()
    assert call(path, "-o", tmp_path / "out.nef", "-m", "none", "-w", tiny) != 0
    assert "are written as .dng" in capsys.readouterr().err
    gray = tmp_path / "gray.png"
    Pillow.fromarray(np.zeros((64, 64), np.uint8)).save(gray)
    with pytest.raises(UnwritableOutput, match="holds the mosaic of a camera raw file"):
        io.write(tmp_path / "gray.dng", io.read(gray))
    assert not list(tmp_path.glob("*.part*"))
    with pytest.raises(UsageError, match="are written as"):
        io.check_output(tmp_path / "x.cr2")
    for name in ("broken.nef", "broken.dng"):
        broken = tmp_path / name
        broken.write_bytes(path.read_bytes()[:900])
        with pytest.raises(UnreadableImage, match="camera raw"):
            io.read(broken)


def test_a_dng_that_does_not_read_back_gets_no_name(tmp_path):
    """A white balance that the tags do not have."""
    image = raw_image()
    sensor = replace(image.metadata.native["sensor"], balance=(9.0, 1.0, 9.0, 0.0))
    wrong = replace(image, metadata=replace(image.metadata, native={"sensor": sensor}))
    with pytest.raises(UnwritableOutput, match="white balance"):
        io.write(tmp_path / "wrong.dng", wrong)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
def test_exiftool_reads_it_without_complaint(dng, tmp_path):
    out = tmp_path / "again.dng"
    io.write(out, io.read(dng()))
    shown = subprocess.run(
        ["exiftool", "-json", "-validate", "-warning", "-n", out],
        capture_output=True,
        text=True,
        check=True,
    )
    warning = json.loads(shown.stdout)[0].get("Warning", "[minor]")
    assert warning.startswith("[minor]")  # ImageHistory is of TIFF/EP, not of EXIF
    full = subprocess.run(["exiftool", "-json", "-n", out], capture_output=True, text=True)
    tags = json.loads(full.stdout)[0]
    assert tags["Model"] == "Ajax One"
    assert tags["ISO"] == 3200
    assert tags["NoiseReductionApplied"] == 1
    assert tags["LensModel"] == "Ajax 50mm"


@pytest.mark.skipif(not shutil.which("dcraw"), reason="dcraw is not installed")
@pytest.mark.parametrize("pattern", BAYER)
def test_dcraw_develops_it(dng, tmp_path, pattern):
    out = tmp_path / "again.dng"
    io.write(out, io.read(dng(pattern=pattern)))
    subprocess.run(["dcraw", "-w", "-T", out], check=True, capture_output=True)
    picture = io.read(out.with_suffix(".tiff")).samples
    assert picture.shape == (96, 144, 3)
    assert picture.std() > 5
