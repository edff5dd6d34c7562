"""weights/make_results.py: its page says what `denoise evaluate` measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from denoise_cli.baselines import BASELINES
from denoise_cli.cli import competitors
from denoise_cli.methods import METHODS

pytest.importorskip("matplotlib", reason="draws the plots of the page; the extra 'plots'")

SCRIPT = Path(__file__).parents[1] / "weights" / "make_results.py"
LEFT_OUT = sorted({*METHODS, "ttt-mim:ttt-mim-gaussian", *BASELINES} - {"nlm", "wavelet"})


def run(*arguments):
    skip = [part for name in LEFT_OUT for part in ("--skip", f"{name}=nowhere")]
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments), *skip],
        capture_output=True, text=True, env={**os.environ, "MPLCONFIGDIR": "matplotlib"},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_page_says_what_was_measured_and_goes_on_where_it_was(folder):
    Path("sets/CC15").mkdir(parents=True)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        clean = np.full((80, 96, 3), 60 + 40 * seed)
        noisy = clean + 20 * rng.standard_normal(clean.shape)
        for kind, picture in (("mean", clean), ("real", noisy)):
            stored = picture.clip(0, 255).astype(np.uint8)
            Image.fromarray(stored).save(f"sets/CC15/{seed}_{kind}.png")
    fixed = ["sets", "cells.jsonl", "--limit", 2, "--crop", 64, "--rows", "CC15", "-o", "page.md"]
    assert run(*fixed).splitlines() == ["CC15 nlm 2", "CC15 wavelet 2"]
    cells = [json.loads(line) for line in Path("cells.jsonl").read_text().splitlines()]
    page = Path("page.md").read_text()
    for cell in cells:
        psnr = np.mean([record["psnr"] for record in cell["records"]])
        assert f"{psnr:.2f}" in page
        assert psnr > cell["records"][0]["psnr_noisy"] + 3
    assert "| CC15 [2] |" in page
    assert "64 x 64 pixels" in page
    for plot in ("speed", "gain"):
        with Image.open(f"results_{plot}.png") as drawn:
            assert drawn.width > 300
    assert run(*fixed) == ""  # nothing was left to measure
    assert Path("page.md").read_text() == page


def test_what_papers_print_stands_beside_what_is_measured_on_whole_sets(folder):
    Path("sets/PolyU").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(2):
        clean = np.full((60, 56, 3), 100 + 30 * index)
        for kind, picture in (("mean", clean), ("real", clean + rng.normal(0, 20, clean.shape))):
            stored = picture.clip(0, 255).astype(np.uint8)
            Image.fromarray(stored).save(f"sets/PolyU/{index}_{kind}.png")
    fixed = ["sets", "cells.jsonl", "--limit", 1, "--crop", 48, "--rows", "PolyU", "-o", "page.md"]
    done = run(*fixed, "--papers").splitlines()
    assert done == ["PolyU nlm 1", "PolyU wavelet 1", "PolyU none 2", "PolyU auto 2"]
    cells = [json.loads(line) for line in Path("cells.jsonl").read_text().splitlines()]
    measured = [np.mean([r["psnr"] for r in cell["records"]]) for cell in cells[2:]]
    row = " | ".join(f"{psnr:.2f} [2]" for psnr in measured)
    assert f"| TTT-MIM | PolyU | 38.45 | {row} |" in Path("page.md").read_text()


def test_the_help_names_all_baselines():
    assert set(competitors.BASELINES) == set(BASELINES)
