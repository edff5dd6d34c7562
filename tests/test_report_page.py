"""The page of --report, in a real browser: it opens offline and its slider moves."""

from __future__ import annotations

import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from denoise_cli.cli import main

sys.path.insert(0, str(Path(__file__).parent))
import browser

DATA = Path(__file__).parent.parent / "examples" / "data"
SPLIT = "getComputedStyle(document.querySelector('.compare')).getPropertyValue('--split').trim()"
BOX = """(box => [box.x, box.y, box.width, box.height])(
    document.querySelector('.compare').getBoundingClientRect())"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a photo, a stack and a file that is none; the photo comes first."""
    folder = tmp_path_factory.mktemp("page")
    inputs = folder / "in"
    inputs.mkdir()
    Image.open(DATA / "osprey.png").crop((200, 100, 460, 300)).save(inputs / "a <b> & c.png")
    gray = np.asarray(Image.open(DATA / "brain_two_photon.png"))[:160, :160].astype(np.uint16)
    tifffile.imwrite(inputs / "stack.tif", np.stack([gray, gray[::-1]]) * 16, imagej=True)
    (inputs / "z.png").write_text("no picture")
    arguments = [str(inputs), "-o", str(folder / "out"), "--report", str(folder / "report.html")]
    # These weights do not know the noise of the stack.
    weights = ["-m", "ttt-mim", "-w", "ttt-mim-gaussian"]
    settings = [*weights, "--steps", "2", "-O", "crop=64", "--device", "cpu", "-q"]
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, *settings])
    assert exit_.value.code == 1
    return folder / "report.html"


def test_one_file_says_everything(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for word in ("a &lt;b&gt; &amp; c.png", "stack.tif", "not a picture but text", "plane 2 of 2"):
        assert word in text
    for title in ("Noise against brightness", "Spectrum of the noise"):
        assert text.count(f"<h3>{title}</h3>") == 2
    assert "<h3>Adaptation: estimated gain</h3>" in text
    assert "<b>" not in text.replace('<b class="', "")
    # Nothing is asked for elsewhere: addresses begin with data: or # only.
    addresses = re.findall(r"(?:src|href)=\"([^\"]{0,20})", text)
    assert len(addresses) >= 2 * (2 + 4)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?://", text)


def test_page_is_not_replaced_without_overwrite(page: Path, tmp_path: Path, capsys) -> None:
    shutil.copy(DATA / "osprey.png", tmp_path)
    before = page.read_bytes()
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path / "osprey.png"), "--report", str(page)])
    assert exit_.value.code == 2
    assert "exists" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["osprey.png"]


@pytest.mark.skipif(browser.find() is None, reason="no Chromium here (apt-get install chromium)")
def test_slider_moves_by_mouse_and_keyboard(page: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moved elsewhere.html"
    shutil.copy(page, alone)
    with browser.Browser(browser.find() or "", tmp_path / "profile") as chromium:
        chromium.open(alone)
        assert chromium.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)")
        x, y, width, height = chromium.evaluate(BOX)
        middle = y + height / 2

        def shown() -> np.ndarray:
            """The comparison as the screen has it, (Y, X, 3)."""
            screen = Image.open(io.BytesIO(chromium.screenshot())).convert("RGB")
            right, bottom = int(x + width), min(int(y + height), screen.height)
            return np.asarray(screen).astype(float)[int(y) + 60 : bottom, int(x) : right]

        assert chromium.evaluate(SPLIT) == "50%"
        half = shown()

        # Dragged with the mouse from the middle to a fifth.
        chromium.mouse("mousePressed", x + width / 2, middle)
        for step in range(1, 11):
            chromium.mouse("mouseMoved", x + width * (0.5 - 0.03 * step), middle)
        chromium.mouse("mouseReleased", x + width * 0.2, middle)
        split = float(chromium.evaluate(SPLIT).rstrip("%"))
        assert split == pytest.approx(20, abs=3)
        fifth = shown()
        # Between a fifth and a half the picture was noisy and is denoised now; elsewhere it stays.
        columns = half.shape[1]
        moved = np.abs(half - fifth).mean(axis=(0, 2))
        assert moved[int(0.26 * columns) : int(0.43 * columns)].mean() > 2
        assert moved[int(0.57 * columns) : int(0.95 * columns)].max() < 0.5
        assert moved[int(0.02 * columns) : int(0.14 * columns)].max() < 0.5
        assert roughness(half[:, int(0.26 * columns) : int(0.43 * columns)]) > 1.2 * roughness(
            fifth[:, int(0.26 * columns) : int(0.43 * columns)]
        )

        # With the keyboard: End shows all of it before, Home after, arrows go by steps.
        chromium.press("End", 35)
        assert chromium.evaluate(SPLIT) == "100%"
        chromium.press("Home", 36)
        assert chromium.evaluate(SPLIT) == "0%"
        for _ in range(4):
            chromium.press("ArrowRight", 39)
        assert chromium.evaluate(SPLIT) == "2%"
        assert chromium.errors == []
        assert all(url.startswith(("file:", "data:")) for url in chromium.requests)
        assert chromium.requests


def roughness(picture: np.ndarray) -> float:
    return float(np.abs(np.diff(picture, axis=1)).mean())
