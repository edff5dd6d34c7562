"""Imports point downward only, and `denoise --help` is quick."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import denoise_cli

PACKAGE = Path(denoise_cli.__file__).parent

# Modules that import nothing of the package but errors; everybody may import them.
LEAVES = {"networks", "masking", "tile", "normalize", "metrics", "image", "device", "values"}
LEAVES |= {
    "adam",
    "memory",
    "defects",
    "flat",
    "mosaic",
    "orientation",
    "sheet",
    "transforms",
    "windows",
}

# layer -> the layers that it may import besides itself and errors
ALLOWED = {
    "": {"cli", "denoiser", "image", "io"},  # __init__ and __main__
    "cli": {"denoiser", "training", "io", "checkpoints", "published", "store", "methods", "trace"}
    | {"baselines", "sheet", "watch"}
    | {"image", "measured", "metrics", "noise", "noise_report", "normalize", "streaming", "values"},
    "trace": {"image", "io", "metrics", "sheet"},
    "baselines": {"denoiser", "image", "normalize", "watch"},
    "denoiser": {"methods", "checkpoints", "image", "networks", "noise_level", "normalize", "tile"}
    | {"device", "forecast", "health", "memory", "streaming", "tiling", "watch"},
    "watch": {"forecast", "methods"},
    "tiling": {"device", "image", "memory", "tile"},
    "forecast": {"methods", "tile"},
    "health": {"defects"},
    "streaming": {"image", "normalize", "methods"},
    "training": LEAVES - {"tile"} | {"checkpoints", "io", "measured", "noise", "objectives"},
    "methods": {"gains", "objectives", "masking", "noise", "noise_level", "validation", "values"}
    | {
        "adam",
        "bayer",
        "coarse",
        "collaborative",
        "dead_lines",
        "defects",
        "details",
        "grain",
        "hot_spots",
        "impulses",
        "neighbors",
        "noise_kind",
        "orientation",
        "resampling",
        "stripes",
        "texture",
        "transforms",
        "windows",
    }
    | {"views"},
    "resampling": {"adam", "noise_level", "objectives", "orientation", "transforms"},
    "views": {"neighbors", "noise_level", "objectives"},
    "bayer": {"transforms"},
    "dead_lines": {"transforms"},
    "coarse": {"transforms", "validation"},
    "grain": {"flat", "transforms", "validation"},
    "stripes": {"transforms", "windows"},
    "collaborative": {"details", "noise_level", "transforms", "windows"},
    "details": {"noise_level", "transforms", "windows"},
    "checkpoints": {"foreign", "networks", "normalize", "store"},
    "foreign": {"networks", "published", "store"},
    "published": {"networks", "store"},
    "store": set(),
    "noise": {"measured", "windows"},
    "measured": {"io", "image", "normalize"},
    "objectives": {"masking", "neighbors", "noise", "noise_level", "transforms"},
    "neighbors": {"noise_level", "transforms"},
    "noise_kind": {"noise_level", "stripes", "transforms", "windows"},
    "noise_level": {"noise", "transforms", "windows"},
    "hot_spots": {"impulses", "transforms", "windows"},
    "impulses": {"transforms", "windows"},
    "gains": set(),
    "io": {"image", "mosaic"},
    "texture": {"flat", "objectives", "transforms"},
    "validation": {"flat", "neighbors", "noise_level", "objectives", "views"},
    "noise_report": {"defects"},
    "errors": set(),
    "lanes": set(),
    **{leaf: set() for leaf in LEAVES},
    "masking": {"orientation"},
}
TORCH_FREE = {"io", "image", "mosaic", "metrics", "errors", "trace", "store"}


def layer_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts[0] in ("__init__", "__main__") else parts[0]


def imported_layers(path: Path) -> set[str]:
    """The layers of this package that a file imports, wherever in the file."""
    package = ("denoise_cli", *path.relative_to(PACKAGE).parts[:-1])
    names: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            # `from .. import checkpoints` names the layer on the right.
            names |= {(*module, alias.name) if len(module) == 1 else module for alias in node.names}
    layers = {name[1] for name in names if name[0] == "denoise_cli" and len(name) > 1}
    return {name for name in layers if name != "__version__"}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    layer = layer_of(path)
    stray = imported_layers(path) - ALLOWED[layer] - {layer, "errors", "lanes"}
    assert not stray, f"{path.name} of layer {layer!r} must not import {sorted(stray)}"


def test_allowed_imports_have_no_cycle():
    def reachable(layer: str) -> set[str]:
        return ALLOWED[layer].union(*(reachable(below) for below in ALLOWED[layer]))

    for layer in ALLOWED:
        assert layer not in reachable(layer)


@pytest.mark.parametrize(
    "path", [p for p in MODULES if layer_of(p) in TORCH_FREE], ids=lambda path: path.name
)
def test_arrays_below_are_numpy_only(path):
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    imports = [n for n in tree if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in imports for a in n.names} | {getattr(n, "module", "") for n in imports}
    assert not {name for name in names if name and name.split(".")[0] == "torch"}


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["evaluate"],
        ["methods"],
        ["weights"],
        ["weights", "pull"],
        ["info"],
        ["compare"],
    ],
)
def test_help_imports_nothing_slow(command):
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "denoise_cli", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "denoise" in process.stdout
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
    assert "typer" in imported
    slow = {"torch", "skimage", "scipy", "rawpy", "imagecodecs", "tifffile", "pooch", "requests"}
    slow |= {"zarr", "pydicom", "OpenEXR", "pillow_heif", "PIL"}
    assert not imported & slow


def test_help_takes_less_than_a_second():
    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "denoise_cli", "--help"], capture_output=True, check=True
        )
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 1
