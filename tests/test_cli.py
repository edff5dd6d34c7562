"""The command line as a user meets it: files, messages, exit codes."""

import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from helpers import files_below, noisy, photo, start
from PIL import Image

import denoise_cli
from denoise_cli import checkpoints
from denoise_cli.cli import main

KEYS = [
    "input",
    "output",
    "method",
    "weights",
    "device",
    "precision",
    "steps",
    "shape",
    "dtype",
    "seconds",
    "seconds_adapt",
    "kept_step",
    "gain_db",
    "reason",
    "warning",
    "candidates",
]


# Inputs that cannot be denoised


def text_named_png(path):
    path.write_text("this is no picture")


def truncated_png(path):
    Image.fromarray(noisy()).save(path)
    path.write_bytes(path.read_bytes()[:5000])


def truncated_tiff(path):
    tifffile.imwrite(path, noisy(), photometric="rgb")
    path.write_bytes(path.read_bytes()[:5000])


def nan_tiff(path):
    samples = np.full((64, 64), 0.5, np.float32)
    samples[3, 4] = np.nan
    tifffile.imwrite(path, samples)


def infinite_tiff(path):
    samples = np.full((64, 64), 0.5, np.float32)
    samples[3, 4] = np.inf
    tifffile.imwrite(path, samples)


def complex_tiff(path):
    tifffile.imwrite(path, np.ones((64, 64), np.complex64))


def five_bands_tiff(path):
    tifffile.imwrite(path, noisy((64, 64, 5)), photometric="minisblack", planarconfig="contig")


BAD_INPUTS = [
    ("missing.png", None, "no such file"),
    ("folder", Path.mkdir, "no images"),
    ("text.png", text_named_png, "text"),
    ("half.png", truncated_png, "truncated"),
    ("half.tif", truncated_tiff, "truncated"),
    ("empty.png", Path.touch, "empty"),
    ("nan.tif", nan_tiff, "NaN"),
    ("inf.tif", infinite_tiff, "infinite"),
    ("complex.tif", complex_tiff, "complex"),
    ("bands.tif", five_bands_tiff, "5 samples"),
]


@pytest.mark.parametrize(("name", "make", "reason"), BAD_INPUTS, ids=[b[0] for b in BAD_INPUTS])
def test_bad_input_is_one_line_and_leaves_nothing(folder, fast, name, make, reason):
    if make:
        make(folder / name)
    before = files_below(folder)
    code, out, err = fast(name)
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith(f"denoise: {name}: ")
    assert reason in err[0]
    assert out == ""
    assert files_below(folder) == before


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2000, 3), (1, 1), (20, 7)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_tiny_pictures_work_and_say_that_they_are_too_small(folder, fast, shape, suffix):
    path = photo(f"tiny{suffix}", shape)
    code, out, err = fast(path)
    assert (code, out) == (0, "")
    assert len(err) == 2
    assert err[0].startswith(f"denoise: {path}: warning: too small to adapt")
    assert denoise_cli.read(f"tiny_denoised{suffix}").samples.shape == shape


# Wrong usage

WRONG = [
    (["-m", "magic"], "unknown method 'magic'; known are ttt-mim"),
    (["-O", "speed=1"], "no option 'speed'"),
    (["-O", "lr"], "NAME=VALUE"),
    (["-O", "lr=fast"], "takes float"),
    (["--device", "tpu"], "unknown device 'tpu'"),
    (["--precision", "int4"], "unknown precision 'int4'"),
    (["--weights", "nowhere"], "'nowhere'"),
    (["--steps", "many"], "--steps"),
    (["--steps", "-1"], "--steps"),
    (["--strength", "2"], "--strength"),
    (["--tile", "big"], "--tile"),
    (["--tile", "7"], "tile"),
    (["--colour"], "--colour"),
    (["-o", "photo.png"], "is an input"),
    (["-o", "."], "is an input"),
    (["-o", "out.jp2"], ".webp"),
    (["--reference"], "--reference"),
]


@pytest.mark.parametrize(("arguments", "reason"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_usage_is_one_line_and_2(folder, call, tiny, arguments, reason):
    photo()
    given = [] if "--weights" in arguments else ["-w", tiny]
    code, out, err = call("photo.png", *given, *arguments, weights=False)
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith("denoise: ")
    assert reason in err[0].replace(str(folder), "")
    assert set(files_below(folder)) == {"photo.png"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_absent_cuda_is_said_not_replaced(folder, call, tiny):
    photo()
    code, _, err = call("photo.png", "-w", tiny, "--device", "cuda", weights=False)
    assert (code, len(err)) == (2, 1)
    assert "cuda" in err[0]
    assert "--device cpu" in err[0]


def test_no_arguments_prints_the_help_and_is_2(call):
    code, out, err = call(weights=False)
    assert (code, err) == (2, [])
    for word in ("INPUT", "--method", "--overwrite", "train", "evaluate", "weights", "methods"):
        assert word in out


def test_help_is_the_same_page_and_0(call):
    assert call("--help", weights=False)[:2] == (0, call(weights=False)[1])


def test_version(call):
    assert call("--version", weights=False) == (0, f"denoise {denoise_cli.__version__}\n", [])


def test_existing_output_needs_overwrite(folder, fast):
    photo()
    target = photo("photo_denoised.png", seed=5)
    before = target.read_bytes()
    code, out, err = fast("photo.png")
    assert (code, out, len(err)) == (2, "", 1)
    assert "exists" in err[0]
    assert "--overwrite" in err[0]
    assert target.read_bytes() == before
    assert fast("photo.png", "--overwrite")[0] == 0
    assert target.read_bytes() != before


# Outputs that cannot be written


def test_folder_below_a_file_cannot_be_written(folder, fast):
    photo()
    (folder / "file").write_text("")
    before = files_below(folder)
    code, out, err = fast("photo.png", "-o", "file/out.png")
    assert (code, out, len(err)) == (1, "", 1)
    assert "file" in err[0]
    assert files_below(folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_read_only_folder_is_said_before_any_work(folder, fast):
    photo()
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    code, _, err = fast("photo.png", "-o", "closed/out.png")
    assert (code, len(err)) == (1, 1)
    assert "not writable" in err[0]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no files")
@pytest.mark.parametrize("output", ["/proc/out.png", "/proc/out/"])
def test_folder_that_takes_no_files(folder, fast, output):
    photo()
    code, out, err = fast("photo.png", "-o", output)
    assert (code, out, len(err)) == (1, "", 1)
    assert err[0].startswith("denoise: /proc/out")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_full_disk_leaves_no_file(folder, tiny, suffix):
    path = photo(f"photo{suffix}")
    before = files_below(folder)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = start(path, "-w", tiny, "-m", "none", preexec_fn=limit)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"denoise: photo_denoised{suffix}: ")
    assert files_below(folder) == before


def test_interrupt_is_130_and_leaves_no_file(folder, tiny):
    photo()
    endless = ["--steps", "1000000", "-O", "validate=false", "-O", "crop=64"]
    process = start("photo.png", "-w", tiny, *endless, "--trace", "trace")
    begun = folder / "trace" / "step_02_denoised.png"
    deadline = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert sorted(path.name for path in folder.iterdir()) == ["photo.png", "trace"]


# What is written


def test_writes_beside_the_input_and_says_so(folder, fast):
    path = photo()
    before = path.read_bytes()
    code, out, err = fast("photo.png")
    assert (code, out, len(err)) == (0, "", 1)
    assert err[0].startswith("photo.png -> photo_denoised.png (")
    assert err[0].endswith(" s)")
    assert path.read_bytes() == before
    assert sorted(files_below(folder)) == ["photo.png", "photo_denoised.png"]


def test_quiet_says_nothing_and_verbose_says_more(folder, fast, tiny):
    photo()
    assert fast("photo.png", "-q") == (0, "", [])
    [line] = fast("photo.png", "-v", "--overwrite")[2]
    for word in ("cpu", "fp32", str(tiny)):
        assert word in line


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_output_is_the_librarys_to_the_byte(folder, call, tiny, suffix):
    path = photo(f"photo{suffix}", shape=(64, 70, 3))
    assert call(path, "--seed", "3", "--strength", "0.7", "--steps", "3")[0] == 0
    image = denoise_cli.read(path)
    settings = {"seed": 3, "strength": 0.7, "steps": 3, "weights": str(tiny), "precision": "fp32"}
    samples = denoise_cli.denoise(image.samples, axes=image.axes, device="cpu", **settings)
    expected = denoise_cli.Image(samples, image.axes, image.metadata)
    denoise_cli.write(f"api{suffix}", expected)
    assert (samples != image.samples).any()
    assert Path(f"photo_denoised{suffix}").read_bytes() == Path(f"api{suffix}").read_bytes()


def test_same_seed_same_bytes_and_another_seed_others(folder, call):
    photo()
    settings = ["--steps", "4", "-O", "validate=false", "-O", "lr=1e-2", "-O", "crop=64"]
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert call("photo.png", "-o", name, "--seed", seed, *settings)[0] == 0
    a, b, c = (Path(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_two_inputs_at_once_are_two_calls(folder, fast):
    photo("a.png")
    photo("b.tif", seed=1)
    assert fast("a.png", "b.tif", "-o", "both/")[0] == 0
    for name in ("a.png", "b.tif"):
        assert fast(name, "-o", f"one_{name}")[0] == 0
        assert (folder / "both" / name).read_bytes() == (folder / f"one_{name}").read_bytes()


def test_folder_stands_for_the_images_in_it(folder, fast):
    (folder / "shots" / "below").mkdir(parents=True)
    photo("shots/b.png")
    photo("shots/a.PNG")
    photo("shots/below/c.png")
    (folder / "shots" / "notes.txt").write_text("")
    code, _, err = fast("shots")
    assert code == 0
    assert [line.split(" ->")[0] for line in err[:-1]] == ["shots/a.PNG", "shots/b.png"]
    assert err[-1].startswith("2 done in ")
    assert (folder / "shots" / "a_denoised.PNG").is_file()
    # A second run does not denoise what the first one wrote.
    assert fast("shots", "--overwrite")[2][-1].startswith("2 done in ")
    assert fast("shots", "-o", "out")[2][-1].startswith("4 done in ")


def test_output_folder_is_created_and_names_are_kept(folder, fast):
    photo()
    assert fast("photo.png", "-o", "new/deeper/")[0] == 0
    assert fast("photo.png", "-o", "plain")[0] == 0
    assert fast("photo.png", "-o", "new/named.tif")[0] == 0
    written = {name for name in files_below(folder) if (folder / name).is_file()}
    assert written == {"photo.png", "new/deeper/photo.png", "plain/photo.png", "new/named.tif"}
    assert (
        denoise_cli.read("new/named.tif").samples == denoise_cli.read("plain/photo.png").samples
    ).all()


def test_several_inputs_need_a_folder(folder, fast):
    photo("a.png")
    photo("b.png")
    code, _, err = fast("a.png", "b.png", "-o", "out.png")
    assert (code, len(err)) == (2, 1)
    assert "folder" in err[0]


def test_colliding_outputs_are_refused_before_any_work(folder, fast):
    for name in ("one", "two"):
        (folder / name).mkdir()
        photo(f"{name}/a.png")
    before = files_below(folder)
    code, _, err = fast("one/a.png", "two/a.png", "-o", "out")
    assert (code, len(err)) == (2, 1)
    assert "one/a.png" in err[0]
    assert "two/a.png" in err[0]
    assert files_below(folder) == before


def test_an_output_that_is_another_input_is_refused(folder, fast):
    photo("a.png")
    photo("a_denoised.png", seed=1)
    code, _, err = fast("a.png", "a_denoised.png", "--overwrite")
    assert (code, len(err)) == (2, 1)
    assert "a_denoised.png: is an input" in err[0]


def test_a_bad_file_does_not_stop_the_others(folder, fast):
    photo("a.png")
    text_named_png(folder / "b.png")
    photo("c.png", seed=1)
    photo("c_denoised.png", seed=2)
    photo("d.png", seed=3)
    code, _, err = fast("a.png", "b.png", "c.png", "missing.png", "d.png")
    assert code == 1
    bad = [line for line in err if line.startswith("denoise: ")]
    assert [line.split(": ")[1] for line in bad] == ["missing.png", "c_denoised.png", "b.png"]
    assert sorted(line.removeprefix("denoise: ") for line in bad) == [
        line.removeprefix("  ") for line in err[-3:]
    ]
    assert err[-4].startswith("2 done, 3 failed in ")
    assert len(err) == 3 + 2 + 1 + 3
    assert (folder / "a_denoised.png").is_file()
    assert (folder / "d_denoised.png").is_file()


def test_a_file_named_like_a_command(folder, fast):
    photo("train.png").rename("train")
    code, _, err = fast("./train", "-o", "out.png")
    assert code == 0, err
    assert (folder / "out.png").is_file()
    code, _, err = fast("./train")
    assert (code, len(err)) == (2, 1)
    assert "suffix" in err[0]


def test_options_may_come_first(folder, call, tiny):
    photo()
    code, _, _ = call("--steps", "1", "-w", tiny, "photo.png", weights=False)
    assert code == 0
    assert (folder / "photo_denoised.png").is_file()


def test_internal_error_is_one_line_without_debug(folder, call, monkeypatch):
    photo()

    def broken(*_, **__):
        raise ZeroDivisionError("a\nbug")

    monkeypatch.setattr("denoise_cli.denoiser.Denoiser.stream", broken)
    code, _, err = call("photo.png")
    assert (code, len(err)) == (1, 1)
    assert "internal error: ZeroDivisionError: a bug" in err[0]
    assert "--debug" in err[0]
    with pytest.raises(ZeroDivisionError):
        main(["photo.png", "--debug", "--overwrite"])


# Reports


def test_json_has_the_promised_keys(folder, fast, tiny):
    photo("a.png")
    photo("b.tif", shape=(64, 70))
    code, out, _ = fast("a.png", "b.tif", "--json", "-q")
    assert code == 0
    first, second = (json.loads(line) for line in out.splitlines())
    assert list(first) == list(second) == KEYS
    assert (first["input"], first["output"]) == ("a.png", "a_denoised.png")
    assert (first["method"], first["weights"]) == ("ttt-mim", str(tiny))
    assert (first["device"], first["precision"], first["steps"]) == ("cpu", "fp32", 2)
    assert (second["shape"], second["dtype"]) == ([64, 70], "uint8")
    assert 0 < first["seconds_adapt"] <= first["seconds"]


def test_json_of_a_batch_lists_only_what_was_done(folder, fast):
    photo("a.png")
    code, out, err = fast("a.png", "missing.png", "--json")
    assert code == 1
    assert json.loads(out)["input"] == "a.png"
    assert err[-2].startswith("1 done, 1 failed in ")


def test_reference_adds_the_scores(folder, fast):
    clean = np.full((64, 64, 3), 128, np.uint8)
    Image.fromarray(clean).save("clean.png")
    Image.fromarray(clean + (noisy() % 40)).save("photo.png")
    code, out, _ = fast("photo.png", "--reference", "clean.png", "--json")
    record = json.loads(out)
    assert code == 0
    assert list(record) == [*KEYS, "psnr_input", "psnr", "ssim"]
    expected = -10 * np.log10(np.mean(((noisy() % 40) / 255) ** 2))
    assert record["psnr_input"] == pytest.approx(expected, abs=1e-3)
    denoised = denoise_cli.read("photo_denoised.png").samples
    error = np.mean((denoised / 255 - 128 / 255) ** 2)
    assert record["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-3)


def test_infinite_scores_are_null(folder, call):
    photo()
    settings = ["-m", "none", "--strength", "0", "--reference", "photo.png", "--json"]
    code, out, _ = call("photo.png", *settings)
    record = json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert code == 0
    assert record["psnr_input"] is record["psnr"] is None
    assert record["ssim"] == 1


def test_references_of_several_inputs_are_found_by_name(folder, fast):
    (folder / "clean").mkdir()
    for name in ("a.png", "b.png"):
        photo(name)
    photo("clean/a.png", seed=1)
    code, out, err = fast("a.png", "b.png", "--reference", "clean", "--json")
    assert code == 1
    assert json.loads(out)["psnr"] > 0
    assert err[0].startswith("denoise: clean/b.png: no such file")
    assert fast("a.png", "b.png", "--reference", "clean/a.png", "--overwrite")[0] == 2


def test_reference_of_another_size_is_said_before_any_work(folder, fast):
    photo()
    photo("clean.png", shape=(64, 65, 3))
    code, _, err = fast("photo.png", "--reference", "clean.png")
    assert (code, len(err)) == (1, 1)
    assert "65x64" in err[0]
    assert not (folder / "photo_denoised.png").exists()


def test_trace_is_written_for_each_input(folder, fast):
    photo("a.png")
    photo("b.png", seed=1)
    assert fast("a.png", "--trace", "alone", "--reference", "b.png")[0] == 0
    assert fast("a.png", "b.png", "--trace", "trace", "-o", "out")[0] == 0
    wanted = {"trace.csv", "contact_sheet.png", "noisy.png", "step_00_denoised.png"}
    wanted |= {"step_02_denoised.png", "step_02_reconstruction.png"}
    for where in ("alone", "trace/a", "trace/b"):
        assert wanted <= {path.name for path in (folder / where).iterdir()}
    assert (folder / "a_denoised.png").read_bytes() == (folder / "out/a.png").read_bytes()
    shown = np.asarray(Image.open("trace/b/noisy.png"))
    assert (shown == noisy(seed=1)).all()


def test_trace_of_12_bits_in_16_is_as_bright_as_the_network_sees_it(folder, fast):
    clean = (noisy((64, 64)).astype(np.uint16) + 1) * 8  # up to 2048
    tifffile.imwrite("dark.tif", clean + noisy((64, 64), seed=1) * np.uint16(8))  # up to 4088
    tifffile.imwrite("clean.tif", clean)
    assert fast("dark.tif", "--trace", "trace", "--reference", "clean.tif")[0] == 0
    shown = np.asarray(Image.open("trace/noisy.png"))
    expected = denoise_cli.read("dark.tif").samples / 4095 * 255
    assert np.abs(shown - expected).max() <= 0.5
    shown = np.asarray(Image.open("trace/clean.png"))
    assert np.abs(shown - clean / 4095 * 255).max() <= 0.5


# The other commands


def test_methods_lists_each_option(call):
    code, out, err = call("methods", weights=False)
    assert (code, err) == (0, [])
    for word in ("ttt-mim", "none", "mask_ratio", "float", "0.4"):
        assert word in out
    assert "ttt-mim" not in call("methods", "none", weights=False)[1]
    assert call("methods", "magic", weights=False)[0] == 2


def test_weights_lists_the_checkpoints(call):
    code, out, err = call("weights", "list", weights=False)
    assert (code, err) == (0, [])
    assert all(name in out for name in checkpoints.names())
    assert call("weights", weights=False)[1] == out
    assert "mix:camera" in out  # which is the code of an emoji


def test_info_says_what_a_file_holds(folder, call):
    tifffile.imwrite("stack.tif", np.arange(2 * 8 * 9, dtype=np.uint16).reshape(2, 8, 9))
    code, out, _ = call("info", "stack.tif", "--json", weights=False)
    record = json.loads(out)
    assert code == 0
    assert (record["shape"], record["dtype"]) == ([2, 8, 9], "uint16")
    assert (record["format"], record["range"]) == ("tiff", [0, 143])
    assert "uint16" in call("info", "stack.tif", weights=False)[1]
    assert call("info", "missing.tif", weights=False)[0] == 1


def test_train_makes_a_checkpoint_that_denoises(folder, call):
    (folder / "photos").mkdir()
    for seed in range(4):
        photo(f"photos/{seed}.png", seed=seed)
    settings = ["--noise", "gaussian:25", "-o", "mine.safetensors", "--device", "cpu"]
    settings += ["--steps", "2", "--batch", "1", "--patch", "32"]
    code, out, err = call("train", "--data", "photos", *settings, weights=False)
    assert (code, out) == (0, ""), err
    assert "validation" in err[0]
    again = call("train", "--data", "photos", *settings, weights=False)
    assert again[0] == 2
    assert "exists" in again[2][0]
    photo()
    done = call("photo.png", "-w", "mine.safetensors", "-m", "none", weights=False)
    assert done[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--data", "nowhere", "-o", "a.safetensors"], 2, "nowhere: no such folder"),
        (["--data", ".", "-o", "a.pth"], 2, ".safetensors"),
        (["--data", ".", "-o", "no/a.safetensors"], 1, "no such folder"),
        (["--data", ".", "-o", "a.safetensors", "--recipe", "magic"], 2, "unknown recipe"),
        (["-o", "a.safetensors"], 2, "--data"),
    ],
)
def test_wrong_training_is_one_line(folder, call, arguments, code, reason):
    answer = call("train", "--noise", "gaussian:25", *arguments, weights=False)
    assert (answer[0], answer[1], len(answer[2])) == (code, "", 1)
    assert reason in answer[2][0]
    assert not list(folder.iterdir())
