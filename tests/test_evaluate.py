"""`denoise evaluate`: which files belong together, and what is measured."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

import denoise_cli
from denoise_cli.cli import main
from denoise_cli.cli.pairs import spread

KEYS = ["image", "noise", "method", "weights", "psnr_noisy", "psnr", "ssim", "seconds", "steps"]
KEYS += ["kept_step", "gain_db"]


@pytest.fixture
def evaluate(capsys, tiny, tmp_path, monkeypatch):
    """Run `denoise evaluate` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        fixed = ["-w", str(tiny), "--device", "cpu", "--precision", "fp32"]
        with pytest.raises(SystemExit) as exit_:
            main(["evaluate", *map(str, args), *fixed])
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return run


def picture(path, seed=0, shape=(64, 64, 3)):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def records(out):
    lines = [json.loads(line) for line in out.splitlines()]
    return [r for r in lines if "mean" not in r], [r["mean"] for r in lines if "mean" in r]


def psnr(clean, other):
    return -10 * np.log10(np.mean((clean / 255 - other / 255) ** 2))


def test_real_pairs_are_scored_as_a_user_would(tmp_path, evaluate, tiny):
    picture(tmp_path / "clean/a.png", seed=1)
    picture(tmp_path / "noisy/a.png", seed=2)
    code, out, err = evaluate("--clean", "clean", "--noisy", "noisy", "-m", "none", "--json")
    assert (code, err) == (0, "")
    [record], [mean] = records(out)
    clean = denoise_cli.read("clean/a.png").samples
    noisy = denoise_cli.read("noisy/a.png").samples
    denoised = denoise_cli.denoise(noisy, "none", weights=str(tiny), device="cpu", precision="fp32")
    assert list(record) == KEYS
    assert record["image"] == "a.png"
    assert record["noise"] is None
    assert record["psnr_noisy"] == pytest.approx(psnr(clean, noisy), abs=1e-4)
    assert record["psnr"] == pytest.approx(psnr(clean, denoised), abs=1e-4)
    ssim = structural_similarity(clean / 255, denoised / 255, channel_axis=-1, data_range=1)
    assert record["ssim"] == pytest.approx(ssim, abs=1e-5)
    assert mean["psnr"] == record["psnr"]
    assert mean["images"] == 1


def test_files_are_paired_by_name(tmp_path, evaluate):
    for seed, name in enumerate(["same", "c_mean", "cell"]):
        picture(tmp_path / f"clean/{name}.png", seed)
    for name in ["same", "c_real", "cell_1", "cell_12"]:
        picture(tmp_path / f"noisy/{name}.png", seed=["same", "c_real", "cell_1"].index(name[:6]))
    _, out, _ = evaluate("--clean", "clean", "--noisy", "noisy", "-m", "none", "--json")
    found, [mean] = records(out)
    assert [r["image"] for r in found] == ["c_real.png", "cell_1.png", "cell_12.png", "same.png"]
    # Each noisy image was given the pixels of the clean one it belongs to.
    assert {r["psnr_noisy"] for r in found} == {None}
    assert mean["images"] == 4


def test_one_folder_may_hold_both(tmp_path, evaluate):
    for seed, name in enumerate(["a_real", "a_mean", "b_real", "b_mean"]):
        picture(tmp_path / f"both/{name}.png", seed)
    _, out, _ = evaluate("--clean", "both", "--noisy", "both", "-m", "none", "--json")
    assert [r["image"] for r in records(out)[0]] == ["a_real.png", "b_real.png"]


def test_files_without_a_partner_are_named(tmp_path, evaluate):
    for name in ("clean/a", "clean/b", "noisy/a", "noisy/c"):
        picture(tmp_path / f"{name}.png")
    code, out, err = evaluate("--clean", "clean", "--noisy", "noisy")
    assert (code, out) == (2, "")
    assert err == "denoise: no partner by name for b.png, c.png\n"


def test_pairs_of_different_size_are_said_and_the_rest_goes_on(tmp_path, evaluate):
    for name in ("clean/a", "clean/b", "noisy/a"):
        picture(tmp_path / f"{name}.png", seed=len(name))
    picture(tmp_path / "noisy/b.png", shape=(64, 65, 3))
    code, out, err = evaluate("--clean", "clean", "--noisy", "noisy", "-m", "none", "--json")
    assert code == 1
    assert len(records(out)[0]) == 1
    assert err.startswith("denoise: clean/b.png: is 64x64")


def test_noise_has_the_level_asked_for_and_each_method_is_a_row(tmp_path, evaluate):
    for seed in range(2):
        Image.fromarray(np.full((96, 96), 120 + seed, np.uint8)).save(tmp_path / f"{seed}.png")
    code, out, err = evaluate(
        "--clean",
        ".",
        "--noise",
        "gaussian:25",
        "-m",
        "none",
        "-m",
        "ttt-mim",
        "--steps",
        1,
        "--json",
    )
    assert (code, err) == (0, "")
    found, means = records(out)
    assert [(r["image"], r["method"]) for r in found] == [
        ("0.png", "none"),
        ("0.png", "ttt-mim"),
        ("1.png", "none"),
        ("1.png", "ttt-mim"),
    ]
    assert [m["method"] for m in means] == ["none", "ttt-mim"]
    for record in found:
        assert record["psnr_noisy"] == pytest.approx(-20 * np.log10(25 / 255), abs=0.3)
        assert record["noise"] == "gaussian:25"
    assert [r["steps"] for r in found] == [0, 1, 0, 1]


def test_noise_does_not_depend_on_order_or_limit(tmp_path, evaluate):
    for name in "abcde":
        picture(tmp_path / f"{name}.png", seed=1)

    def scores(*args):
        _, out, _ = evaluate(
            "--clean", ".", "--noise", "gaussian:50", "-m", "none", "--json", *args
        )
        return {r["image"]: r["psnr"] for r in records(out)[0]}

    everything = scores()
    assert scores() == everything
    assert len(set(everything.values())) == 5, "each file has noise of its own"
    limited = scores("--limit", 3)
    assert list(limited) == ["a.png", "c.png", "e.png"]
    assert limited.items() <= everything.items()
    (tmp_path / "a.png").unlink()
    assert scores().items() <= everything.items()
    assert not set(scores("--seed", 1).values()) & set(everything.values())


def test_each_noise_is_evaluated(tmp_path, evaluate):
    picture(tmp_path / "a.png", shape=(64, 64))
    noises = ["--noise", "gaussian:5", "--noise", "gaussian:50"]
    _, out, _ = evaluate("--clean", ".", *noises, "-m", "none", "--json")
    weak, strong = records(out)[0]
    assert weak["psnr_noisy"] > strong["psnr_noisy"] + 10
    assert [m["noise"] for m in records(out)[1]] == ["gaussian:5", "gaussian:50"]


def test_table_ends_with_the_mean(tmp_path, evaluate):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    code, out, _ = evaluate("--clean", ".", "--noise", "gaussian:25", "-m", "none")
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert code == 0
    assert lines[0] == ["gaussian:25"]
    assert [line[0] for line in lines[2:]] == ["a.png", "b.png", "mean"]
    values = np.array([[float(v) for v in line[1:4]] for line in lines[2:]])
    assert values[2] == pytest.approx(values[:2].mean(axis=0), abs=0.011)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "either --noisy or --noise"),
        (["--noise", "gaussian:5", "--noisy", "."], "either --noisy or --noise"),
        (["--noise", "snow:5"], "unknown noise 'snow:5'"),
        (["--noise", "defocus:1+gaussian:5"], "for training"),
        (["--noise", "gaussian:5", "-m", "magic"], "unknown method"),
        (["--noise", "gaussian:5", "-O", "magic=1"], "no option 'magic'"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, evaluate, arguments, reason):
    picture(tmp_path / "a.png")
    code, out, err = evaluate("--clean", ".", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert reason in err


@pytest.mark.parametrize(
    ("count", "limit", "chosen"),
    [(5, None, [0, 1, 2, 3, 4]), (5, 9, [0, 1, 2, 3, 4]), (5, 2, [0, 4]), (9, 3, [0, 4, 8])],
)
def test_limit_spreads_evenly(count, limit, chosen):
    assert spread(list(range(count)), limit) == chosen
