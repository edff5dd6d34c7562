"""What every method promises, whoever wrote it: a new line in METHODS is tested by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from test_validation import scene

from denoise_cli import Denoiser, checkpoints, methods, noise
from denoise_cli.cli import main
from denoise_cli.errors import UsageError
from denoise_cli.metrics import psnr
from denoise_cli.trace import Trace

# Options under which a method is quick, random and does something on a tiny picture, where its
# defaults are not; and the value of an option to compare with, where halves and doubles do not do.
QUICK: dict[str, dict[str, Any]] = {
    "ttt-mim": {"steps": 2, "lr": 2e-4, "validate": False},
    "meta-transfer": {"steps": 2, "crop": 64, "validate": False},
    "masked": {"passes": 2},
    "mpi": {"steps": 6, "passes": 2},
    "gaintuning": {"steps": 3, "crop": 48, "validate": False},
    "auto": {"steps": 4},
}
OTHER: dict[tuple[str, str], Any] = {
    ("ttt-mim", "crop"): 64,
    ("meta-transfer", "crop"): 80,
    ("meta-transfer", "part"): "all",
    ("mpi", "preset"): "full",
    ("gaintuning", "loss"): "blind-spot",
    ("gaintuning", "crop"): 32,
    ("auto", "budget"): "best",
    ("mpi", "crop"): 64,
    ("mpi", "lr"): 1e-3,
    ("mpi", "beta"): 0.5,
    ("mpi", "mask_ratio"): 0.5,
}
# Options that an option can only be seen with.
WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("ttt-mim", "validate"): {"lr": 0.05},
    ("meta-transfer", "validate"): {"lr": 0.5},
    ("mpi", "preset"): {"steps": 20},
    ("gaintuning", "validate"): {"lr": 0.5},
}
# Why an option, or the seed, changes nothing.
EXEMPT: dict[tuple[str, str], str] = {
    ("none", "seed"): "nothing is random",
    ("gaintuning", "view"): "noise of the training is shown to the network as it is",
}
LEAST_GAIN_DB = 2.0

EVERY = list(methods.METHODS)
OPTIONS = [(name, f.name) for name in EVERY for f in fields(methods.method_class(name))]


@pytest.fixture(params=EVERY)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(
    size: int = 96, gray: bool = False, spec: str = "gaussian:25"
) -> tuple[np.ndarray, np.ndarray]:
    """A clean picture (Y, X[, 3]) on 0..1 and a noisy one of it."""
    clean = scene(size)[:, :1] if gray else scene(size)
    noisy = noise.parse(spec).sample(clean, torch.Generator().manual_seed(1))
    both = [np.moveaxis(picture[0].numpy(), 0, -1) for picture in (clean, noisy)]
    return (both[0][..., 0], both[1][..., 0]) if gray else (both[0], both[1])


def denoiser(method: str, seed: int = 0, **options: Any) -> Denoiser:
    return Denoiser(method, options={**QUICK.get(method, {}), **options}, seed=seed)


@pytest.mark.parametrize("gray", [False, True], ids=["color", "gray"])
def test_it_improves_a_noisy_picture_and_leaves_it_alone(method: str, gray: bool) -> None:
    clean, noisy = pictures(gray=gray)
    before = noisy.copy()
    options = {"steps": 40} if method in ("mpi", "auto") else {}  # of 200 and 160
    denoised = Denoiser(method, options=options)(noisy)
    np.testing.assert_array_equal(noisy, before)
    assert (denoised.shape, denoised.dtype) == (noisy.shape, noisy.dtype)
    assert psnr(clean, denoised) > psnr(clean, noisy) + LEAST_GAIN_DB


def test_the_network_is_left_as_it_was_found(method: str) -> None:
    quick = denoiser(method)
    before = copy.deepcopy(quick._network.state_dict())
    training = quick._network.training
    _, noisy = pictures()
    first = quick(noisy)
    after = quick._network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert quick._network.training == training
    assert all(p.grad is None for p in quick._network.parameters())
    np.testing.assert_array_equal(quick(noisy), first)


def test_the_seed_decides(method: str) -> None:
    _, noisy = pictures()
    first = denoiser(method, seed=3)(noisy)
    torch.manual_seed(99)
    np.random.seed(99)
    np.testing.assert_array_equal(denoiser(method, seed=3)(noisy), first)
    changed = not np.array_equal(denoiser(method, seed=4)(noisy), first)
    assert changed != ((method, "seed") in EXEMPT)


@pytest.mark.parametrize(("method_name", "option"), OPTIONS, ids=lambda part: str(part))
def test_every_option_changes_the_result(method_name: str, option: str) -> None:
    if (method_name, option) in EXEMPT:
        pytest.skip(EXEMPT[method_name, option])
    _, noisy = pictures()
    usual = {**QUICK.get(method_name, {}), **WITH.get((method_name, option), {})}
    first = denoiser(method_name, **usual)(noisy)
    other = {**usual, option: another(method_name, option, usual)}
    assert not np.array_equal(denoiser(method_name, **other)(noisy), first)


def another(method: str, option: str, usual: dict[str, Any]) -> Any:
    """A value of `option` that the method takes and that is not in use."""
    if (method, option) in OTHER:
        return OTHER[method, option]
    cls = methods.method_class(method)
    value = usual.get(option, next(f.default for f in fields(cls) if f.name == option))
    kind = get_type_hints(cls)[option]
    if kind is bool:
        return not value
    for candidate in (value / 2, value * 2, value + 1, value + 0.1) if kind is not str else ():
        try:
            methods.load_method(method, {**usual, option: kind(candidate)})
        except UsageError:
            continue
        if kind(candidate) != value:
            return kind(candidate)
    raise AssertionError(f"give another value for {option!r} of {method!r} in OTHER")


@pytest.mark.parametrize("shape", [(67, 93, 3), (71, 65), (9, 13, 3), (1, 1)], ids=str)
def test_odd_sizes(method: str, shape: tuple[int, ...]) -> None:
    _, noisy = pictures(96, gray=len(shape) == 2)
    part = noisy[: shape[0], : shape[1]]
    denoised = denoiser(method)(part)
    assert denoised.shape == shape
    assert np.isfinite(denoised).all()


def test_the_trace_shows_it(method: str, tmp_path: Path) -> None:
    clean, noisy = pictures()
    trace = Trace(tmp_path, reference=clean)
    trace.noisy(noisy)
    result = denoiser(method).run(noisy, trace=trace)
    trace.close(kept_step=result.kept_step)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"noisy.png", "trace.csv", "contact_sheet.png", "step_00_denoised.png"} <= names
    rows = (tmp_path / "trace.csv").read_text().splitlines()
    assert rows[0].startswith("step,")
    if result.steps:
        assert len(rows) > 2


def test_progress_reaches_its_end(method: str) -> None:
    _, noisy = pictures()
    seen: list[tuple[str, int, int]] = []
    result = denoiser(method).run(noisy, progress=lambda *state: seen.append(state))
    adapting = [(done, total) for phase, done, total in seen if phase == "adapt"]
    assert bool(adapting) == bool(result.steps)
    assert all(done <= total for done, total in adapting)
    assert not adapting or adapting[-1][0] == adapting[-1][1]


def test_the_command_line_gives_what_the_api_gives(method: str, tmp_path: Path) -> None:
    from PIL import Image

    _, noisy = pictures(72)
    samples = (noisy.clip(0, 1) * 255).astype(np.uint8)
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(samples).save(source)
    chosen = QUICK.get(method, {})
    arguments = [part for name, value in chosen.items() for part in ("-O", f"{name}={value}")]
    with pytest.raises(SystemExit) as exit_:
        main([str(source), "-o", str(target), "-m", method, "--seed", "5", "-q", *arguments])
    assert exit_.value.code == 0
    np.testing.assert_array_equal(np.asarray(Image.open(target)), denoiser(method, seed=5)(samples))


def test_a_checkpoint_is_there_for_it(method: str) -> None:
    name = checkpoints.default_for(method)
    assert method in checkpoints.load(name).supports


def test_its_options_are_described(method: str) -> None:
    summary, options = methods.describe(method)
    assert summary.endswith(".")
    assert all(text for _, _, _, text in options)


def test_nothing_is_declared_of_methods_that_are_not() -> None:
    declared = {*OTHER, *WITH, *EXEMPT}
    assert declared <= {*OPTIONS, *((name, "seed") for name in EVERY)}
    assert set(QUICK) <= set(EVERY)
