"""`denoise compare`, and the classical denoisers that it and `denoise evaluate` know."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from PIL import Image

import denoise_cli
from denoise_cli import metrics
from denoise_cli.baselines import Baseline
from denoise_cli.errors import UsageError


def ramps(side=96):
    """A clean color picture on 0..1: slow waves and a sharp square."""
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([0.3 + 0.4 * x, 0.3 + 0.3 * np.sin(5 * y) ** 2, 0.6 - 0.3 * y], axis=-1)
    picture[side // 3 : side // 2, side // 3 : side // 2] = 0.85
    return picture


def store(path, picture):
    Image.fromarray(np.rint(picture.clip(0, 1) * 255).astype(np.uint8)).save(path)
    return Path(path)


@pytest.fixture
def pair(folder):
    clean = ramps()
    noise = 0.08 * np.random.default_rng(0).standard_normal(clean.shape)
    return store("noisy.png", clean + noise), store("clean.png", clean)


def compare(call, tiny, *arguments):
    """Run the command: (exit code, the JSON lines, the lines of stderr)."""
    fixed = ["--device", "cpu", "--precision", "fp32"]
    code, out, err = call("compare", *arguments, *fixed, weights=False)
    return code, [json.loads(line) for line in out.splitlines()], err


def test_a_sheet_a_table_and_a_line_for_each_method(pair, call, tiny):
    noisy, clean = pair
    before = noisy.read_bytes(), clean.read_bytes()
    code, lines, err = compare(call, tiny, noisy, "--reference", clean,
                               "-m", f"none:{tiny},nlm,wavelet", "--json")  # fmt: skip
    assert code == 0
    assert [line["method"] for line in lines] == ["none", "nlm", "wavelet"]
    assert err[-1] == "noisy_compare.png written"
    table = "\n".join(err)
    stored = [np.asarray(Image.open(path)) / 255 for path in pair]
    psnr_noisy = metrics.psnr(stored[1], stored[0])
    for line in lines:
        assert line["psnr_noisy"] == pytest.approx(psnr_noisy)
        assert f"{line['psnr']:.2f}" in table
        assert f"{line['ssim']:.4f}" in table
        assert line["seconds"] > 0
    for line in lines[1:]:
        assert line["psnr"] > psnr_noisy + 3
    with Image.open("noisy_compare.png") as sheet:
        assert sheet.width > sheet.height > 200  # five columns
    assert (noisy.read_bytes(), clean.read_bytes()) == before
    assert sorted(path.name for path in Path().iterdir()) == [
        "clean.png", "noisy.png", "noisy_compare.png"]  # fmt: skip


def test_without_a_reference_nothing_is_scored(pair, call, tiny):
    code, lines, err = compare(call, tiny, pair[0], "-m", "nlm", "--json", "-o", "sheet.png")
    assert code == 0
    assert not {"psnr", "ssim", "psnr_noisy"} & lines[0].keys()
    assert "dB" not in "".join(err)
    assert Path("sheet.png").stat().st_size > 1000


def test_the_columns_of_the_sheet_show_the_pictures(pair, call, tiny):
    compare(call, tiny, pair[0], "-m", "nlm,wavelet", "-o", "two.png")
    compare(call, tiny, pair[0], "--reference", pair[1], "-m", "nlm,wavelet", "-o", "four.png")
    two, four = (np.asarray(Image.open(name)) for name in ("two.png", "four.png"))
    assert four.shape[1] > two.shape[1]  # one more for the reference

    def grain(column, columns, sheet):
        """How much neighbors differ in the zoomed crop of a column, at the bottom."""
        wide = sheet.shape[1] // columns
        crop = sheet[-wide + 60 : -60, column * wide + 60 : (column + 1) * wide - 60].astype(float)
        return np.abs(np.diff(crop, axis=1)).mean()

    noisy, *denoised, clean = (grain(i, 4, four) for i in range(4))
    assert all(clean < each < noisy for each in denoised)


@pytest.mark.parametrize("name", ["gray.tif", "deep.tif", "stack.tif", "alpha.png"])
def test_pictures_of_other_kinds(name, folder, call, tiny):
    rng = np.random.default_rng(0)
    picture = (ramps(64) + 0.05 * rng.standard_normal((64, 64, 3))).clip(0, 1)
    sixteen = np.rint(picture * 65535).astype(np.uint16)
    if name == "alpha.png":
        alpha = np.full((64, 64, 1), 200, np.uint8)
        Image.fromarray(np.concatenate([sixteen.astype(np.uint8), alpha], axis=-1)).save(name)
    else:
        import tifffile

        made = {"gray.tif": sixteen[..., 0], "deep.tif": sixteen,
                "stack.tif": np.stack([sixteen[..., 1]] * 3)}[name]  # fmt: skip
        tifffile.imwrite(name, made, photometric="rgb" if name == "deep.tif" else "minisblack")
    code, lines, err = compare(call, tiny, name, "-m", f"none:{tiny},nlm,wavelet", "--json")
    assert (code, len(lines)) == (0, 3), err
    assert Path(name).with_name(f"{Path(name).stem}_compare.png").is_file()


def test_what_exists_is_kept_unless_asked_for(pair, call, tiny):
    Path("noisy_compare.png").write_text("mine")
    code, _, err = compare(call, tiny, pair[0], "-m", "nlm")
    assert code == 2
    assert err == ["denoise: noisy_compare.png: exists; give --overwrite or another -o"]
    assert Path("noisy_compare.png").read_text() == "mine"
    assert compare(call, tiny, pair[0], "-m", "nlm", "--overwrite")[0] == 0
    assert Path("noisy_compare.png").read_bytes().startswith(b"\x89PNG")
    for path in pair:
        held = path.read_bytes()
        code, _, err = compare(call, tiny, pair[0], "--reference", pair[1], "-o", path,
                               "-m", "nlm", "--overwrite")  # fmt: skip
        assert (code, len(err)) == (2, 1)
        assert path.read_bytes() == held


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-m", "magic"], 2, "known are ttt-mim"),
        (["-m", "none,nlm,none"], 2, "twice"),
        (["-m", ","], 2, "--methods"),
        (["-m", "nlm:some"], 2, "needs no weights"),
        (["-m", "none:absent.safetensors"], 2, "absent.safetensors"),
        (["-m", "nlm", "-o", "sheet.jpg"], 2, ".png"),
        (["-m", "nlm", "--reference", "absent.png"], 1, "absent.png"),
        (["-m", "nlm", "--reference", "small.png"], 1, "small.png"),
    ],
)
def test_bad_arguments_are_one_line(arguments, code, message, pair, call, tiny):
    photo("small.png", (32, 32, 3))
    found, lines, err = compare(call, tiny, pair[0], *arguments)
    assert (found, lines, len(err)) == (code, [], 1)
    assert err[0].startswith("denoise: ")
    assert message in err[0]
    assert not list(Path().glob("*_compare.png"))


def test_a_file_that_is_no_image(folder, call, tiny):
    Path("broken.png").write_bytes(b"no picture")
    code, _, err = compare(call, tiny, "broken.png", "-m", "nlm")
    assert (code, len(err)) == (1, 1)


def test_a_missing_package_is_said(pair, call, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)  # as if it were not installed
    code, _, err = compare(call, tiny, pair[0], "-m", "bm3d")
    assert code == 2
    assert err == [
        'denoise: bm3d is not installed: pip install "denoise-cli[bm3d]", or leave it out'
    ]


def test_bm3d_where_it_is_installed():
    pytest.importorskip("bm3d", reason="its license keeps it out of the test environment")
    clean = ramps(64)
    noisy = clean + 0.08 * np.random.default_rng(0).standard_normal(clean.shape)
    for picture in (noisy, noisy[..., 0]):
        denoised = Baseline("bm3d").run(picture.astype(np.float32)).samples
        truth = clean if picture.ndim == 3 else clean[..., 0]
        assert metrics.psnr(truth, denoised) > metrics.psnr(truth, picture) + 4


@pytest.mark.parametrize("method", ["nlm", "wavelet"])
@pytest.mark.parametrize("level", [0.03, 0.1])
def test_baselines_find_the_level_themselves(method, level):
    clean = ramps()
    noisy = clean + level * np.random.default_rng(0).standard_normal(clean.shape)
    denoised = Baseline(method).run(noisy).samples
    assert metrics.psnr(clean, denoised) > metrics.psnr(clean, noisy) + 3
    gray = Baseline(method).run(noisy[..., 0]).samples
    assert metrics.psnr(clean[..., 0], gray) > metrics.psnr(clean[..., 0], noisy[..., 0]) + 3
    # On another scale and in integers it is the same picture.
    stored = np.rint(noisy.clip(0, 1) * 65535).astype(np.uint16)
    integers = Baseline(method).run(stored).samples
    assert integers.dtype == np.uint16
    assert metrics.psnr(clean, integers / 65535) > metrics.psnr(clean, noisy) + 3


@pytest.mark.parametrize("method", ["nlm", "wavelet"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 4, 3), (40, 3), (32, 32, 3)])
def test_flat_and_tiny_pictures_come_back(method, shape):
    flat = np.full(shape, 100, np.uint8)
    assert np.array_equal(Baseline(method).run(flat).samples, flat)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert Baseline(method).run(noise).samples.shape == shape


def test_unknown_baselines_are_refused():
    with pytest.raises(UsageError, match="nlm"):
        Baseline("magic")


def test_evaluate_knows_the_baselines(pair, call, tiny):
    for name in ("clean", "noisy"):
        Path(f"{name}s").mkdir()
        Path(f"{name}.png").rename(f"{name}s/a.png")
    code, out, err = call("evaluate", "--clean", "cleans", "--noisy", "noisys",
                          "-m", "none", "-m", "nlm", "--json")  # fmt: skip
    assert (code, err) == (0, [])
    records = [json.loads(line) for line in out.splitlines()][:2]
    assert [(r["method"], r["weights"] is None) for r in records] == [
        ("none", False),
        ("nlm", True),
    ]
    noisy = denoise_cli.read("noisys/a.png").samples
    clean = denoise_cli.read("cleans/a.png").samples
    denoised = Baseline("nlm").run(noisy).samples
    assert records[1]["psnr"] == pytest.approx(metrics.psnr(clean / 255, denoised / 255))
    code, _, err = call("evaluate", "--clean", "cleans", "--noisy", "noisys", "-m", "nlm",
                        "-O", "crop=3")  # fmt: skip
    assert (code, len(err)) == (2, 1)
    assert "no options" in err[0]
