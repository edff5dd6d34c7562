"""A trace is a folder a person can look at."""

import csv

import numpy as np
import pytest
from PIL import Image

from denoise_cli.errors import UnwritableOutput
from denoise_cli.metrics import psnr
from denoise_cli.trace import REGION, Trace


@pytest.fixture
def clean():
    y, x = np.mgrid[:40, :60]
    gray = 0.5 + 0.4 * np.sin(x / 4) * np.cos(y / 5)
    return np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1)


@pytest.fixture
def noisy(clean):
    return clean + np.random.default_rng(0).normal(0, 0.2, clean.shape)


def record(trace, clean, noisy, steps=4):
    trace.noisy(noisy)
    for step in range(steps):
        denoised = clean + (noisy - clean) / (step + 1)
        losses = {"loss_a": 1 / step, "loss_b": 2.0} if step else {}
        trace.record(step, denoised, clean if step else None, **losses, score=float(-step))
    return trace


def test_pictures_are_8_bit_png_of_each_step(tmp_path, clean, noisy):
    record(Trace(tmp_path), clean, noisy)
    names = {path.name for path in tmp_path.iterdir()}
    steps = {f"step_{k:02d}_denoised.png" for k in range(4)}
    assert names == steps | {f"step_{k:02d}_reconstruction.png" for k in (1, 2, 3)} | {"noisy.png"}
    stored = np.asarray(Image.open(tmp_path / "step_01_reconstruction.png"))
    assert stored.dtype == np.uint8
    assert np.abs(stored / 255 - clean).max() < 0.6 / 255


def test_table_has_the_numbers_of_each_step(tmp_path, clean, noisy):
    record(Trace(tmp_path, reference=clean), clean, noisy).close(kept_step=2)
    with (tmp_path / "trace.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == ["step", "loss_a", "loss_b", "score", "psnr", "kept"]
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["kept"] for row in rows] == ["0", "0", "1", "0"]
    assert [row["loss_a"] for row in rows][:2] == ["", "1.0"]
    assert float(rows[1]["psnr"]) == pytest.approx(psnr(clean, clean + (noisy - clean) / 2))
    assert float(rows[3]["psnr"]) > float(rows[0]["psnr"]) + 10


def test_without_a_reference_the_psnr_is_empty(tmp_path, clean, noisy):
    record(Trace(tmp_path), clean, noisy).close(0)
    with (tmp_path / "trace.csv").open() as file:
        assert {row["psnr"] for row in csv.DictReader(file)} == {""}


@pytest.mark.parametrize("steps", [1, 4, 40])
def test_contact_sheet_frames_the_kept_step(tmp_path, clean, noisy, steps):
    record(Trace(tmp_path, reference=clean), clean, noisy, steps).close(kept_step=steps - 1)
    sheet = np.asarray(Image.open(tmp_path / "contact_sheet.png"))
    assert 300 < sheet.shape[1] <= 2400
    assert sheet.shape[0] <= 4000
    green = (sheet == (90, 200, 90)).all(axis=-1)
    assert green.sum(axis=0).max() > 300, "no frame drawn"


def test_sheet_differs_when_another_step_is_kept(tmp_path, clean, noisy):
    sheets = []
    for kept in (0, 3):
        record(Trace(tmp_path), clean, noisy).close(kept)
        sheets.append((tmp_path / "contact_sheet.png").read_bytes())
    assert sheets[0] != sheets[1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (2000, 5)])
def test_sheet_of_odd_shapes(tmp_path, shape):
    picture = np.random.default_rng(0).random((*shape, 1))
    trace = Trace(tmp_path)
    rows, columns = trace.region(shape)
    trace.noisy(picture)
    trace.record(0, picture[rows, columns], None)
    trace.close(0)
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.width <= 2400


def test_pictures_are_upright(tmp_path, clean, noisy):
    trace = Trace(tmp_path, orientation=6)  # stored on its side: to be turned clockwise
    trace.noisy(clean)
    stored = np.asarray(Image.open(tmp_path / "noisy.png"))
    assert stored.shape == (60, 40, 3)
    assert np.abs(stored / 255 - np.rot90(clean, -1)).max() < 0.6 / 255


def test_large_pictures_are_traced_in_their_middle(tmp_path):
    trace = Trace(tmp_path)
    assert trace.region((500, REGION)) == (slice(0, 500), slice(0, REGION))
    rows, columns = trace.region((REGION + 100, 3000))
    assert (rows.start, rows.stop) == (50, REGION + 50)
    assert columns.stop - columns.start == REGION
    assert columns.start == (3000 - REGION) // 2
    picture = np.zeros((REGION + 100, 64, 1))
    picture[50:-50] = 1
    trace.noisy(picture)
    stored = np.asarray(Image.open(tmp_path / "noisy.png"))
    assert stored.shape == (REGION, 64)
    assert (stored == 255).all()


def test_a_shorter_trace_leaves_no_steps_of_a_longer_one(tmp_path, clean, noisy):
    keep = tmp_path / "step_notes.txt"
    keep.write_text("mine")
    record(Trace(tmp_path), clean, noisy, steps=4)
    record(Trace(tmp_path), clean, noisy, steps=2)
    assert len(list(tmp_path.glob("step_*_denoised.png"))) == 2
    assert keep.read_text() == "mine"


def test_unwritable_folder_is_said(tmp_path, clean):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableOutput, match="trace cannot be written"):
        Trace(tmp_path / "file" / "trace").noisy(clean)
