"""`denoise info`: what a file is, and what noise it has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import noisy
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational


def noisy_photo(path, sigma=20, **settings):
    """A slope with noise of a known level."""
    generator = np.random.default_rng(0)
    slope = np.linspace(60, 190, 256)[:, None, None] + np.zeros((1, 256, 3))
    samples = (slope + generator.normal(0, sigma, slope.shape)).round().clip(0, 255)
    Image.fromarray(samples.astype(np.uint8)).save(path, **settings)


def test_a_photo_with_camera_and_profile(folder, call):
    exif = Image.Exif()
    exif[271], exif[272] = "Nikon", "D5100"
    ratios = {33434: IFDRational(1, 250), 33437: IFDRational(28, 10), 37386: IFDRational(50, 1)}
    exif.get_ifd(0x8769).update({**ratios, 34855: 1600})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noisy_photo("photo.png", exif=exif.tobytes(), icc_profile=profile)
    code, out, err = call("info", "photo.png", weights=False)
    assert (code, err) == (0, [])
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert said["format"] == "png"
    assert said["exif"] == "Nikon, D5100, 1/250 s, f/2.8, ISO 1600, 50 mm"
    assert "sRGB" in said["icc"]
    assert said["correlation"].startswith("white")
    assert "of 255" in said["noise"]
    assert int(said["bytes"]) == (folder / "photo.png").stat().st_size


def test_json_holds_the_noise_in_numbers(folder, call):
    noisy_photo("photo.png")
    code, out, _ = call("info", "photo.png", "--json", weights=False)
    record = json.loads(out)
    assert code == 0
    noise = record["noise"]
    assert abs(noise["sigma"] - 20 / 255) < 0.003
    assert noise["blur"] == 0
    assert noise["grid"] is None
    assert record["icc"] is None
    assert record["exif"] == {}


def test_a_jpeg_shows_its_grid(folder, call):
    noisy_photo("photo.jpg", sigma=5, quality=60)
    _, out, _ = call("info", "photo.jpg", weights=False)
    assert "jpeg grid" in out
    assert "from (0, 0)" in out


def test_the_middle_plane_of_a_stack_is_measured(folder, call):
    generator = np.random.default_rng(0)
    planes = [generator.normal(2000, sigma, (200, 200)) for sigma in (10, 200, 10)]
    tifffile.imwrite("stack.tif", np.stack(planes).astype(np.uint16), photometric="minisblack")
    _, out, _ = call("info", "stack.tif", "--json", weights=False)
    record = json.loads(out)
    assert record["shape"] == [3, 200, 200]
    assert abs(record["noise"]["sigma"] * 4095 - 200) < 10


def test_a_tiny_image_says_why_there_is_no_noise(folder, call):
    Image.fromarray(noisy((20, 30, 3))).save("tiny.png")
    code, out, _ = call("info", "tiny.png", weights=False)
    assert code == 0
    assert "not measured" in out


def test_a_damaged_profile_is_said(folder, call):
    Image.fromarray(noisy((20, 30, 3))).save("odd.png", icc_profile=b"no profile at all")
    _, out, _ = call("info", "odd.png", weights=False)
    assert any(line.split()[:2] == ["icc", "damaged"] for line in out.splitlines())


def test_the_range_is_that_of_all_planes_and_zarr_has_a_size(folder, call):
    zarr = pytest.importorskip("zarr")
    planes = np.full((5, 40, 50), 500, np.uint16)
    planes[0, 3, 4], planes[4, 5, 6] = 7, 3000
    tifffile.imwrite("stack.tif", planes, photometric="minisblack")
    record = json.loads(call("info", "stack.tif", "--json", weights=False)[1])
    assert record["range"] == [7, 3000]
    zarr.save_array("stack.zarr", planes)
    stored = json.loads(call("info", "stack.zarr", "--json", weights=False)[1])
    assert stored["range"] == [7, 3000]
    files = [path for path in (folder / "stack.zarr").rglob("*") if path.is_file()]
    assert stored["bytes"] == sum(path.stat().st_size for path in files)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak in /proc")
def test_memory_does_not_grow_with_the_stack(folder):
    """A hundred megabytes more of it, and much less than that in memory."""
    code = (
        "import sys\nfrom denoise_cli.cli import main\n"
        "try: main(sys.argv[1:])\nfinally: print(open('/proc/self/status').read())"
    )
    peaks = []
    for count in (4, 204):
        frames = (np.full((512, 512), 100 + i, np.uint16) for i in range(count))
        shape = (count, 512, 512)
        tifffile.imwrite(
            f"{count}.tif", frames, shape=shape, dtype=np.uint16, photometric="minisblack"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "info", f"{count}.tif"], capture_output=True, text=True
        )
        assert f"{99 + count}]" in done.stdout, done.stderr
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) * 1024)
    assert peaks[1] - peaks[0] < 30e6
