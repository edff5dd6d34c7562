"""Folders of pictures: which files, where to, what is skipped, several processes, memory."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import files_below, noisy, photo, start

import denoise_cli
from denoise_cli.io import temporary

FLAGS = ["-m", "none", "--precision", "fp32"]


@pytest.fixture
def tree(folder):
    """shots/: a.png, b.tif, day1/a.png, day1/deep/c.png, a hidden folder, and notes."""
    for name in ("day1/deep", ".cache"):
        (folder / "shots" / name).mkdir(parents=True)
    for seed, name in enumerate(
        ["a.png", "b.tif", "day1/a.png", "day1/deep/c.png", ".cache/x.png"]
    ):
        photo(f"shots/{name}", seed=seed)
    (folder / "shots" / "day1" / "notes.txt").write_text("")
    return folder / "shots"


def written(folder):
    """Every file below `folder`, hidden ones too."""
    return sorted(name for name in files_below(Path(folder)) if (Path(folder) / name).is_file())


def test_recursive_mirrors_the_tree(tree, call):
    code, _, err = call("shots", "-o", "out", "--recursive", *FLAGS[:2])
    assert code == 0
    assert written("out") == ["a.png", "b.tif", "day1/a.png", "day1/deep/c.png"]
    assert err[-1].startswith("4 done in ")
    # Each is what the file alone gives.
    assert call("shots/day1/deep/c.png", "-o", "one.png", "-m", "none")[0] == 0
    assert Path("one.png").read_bytes() == Path("out/day1/deep/c.png").read_bytes()


def test_outputs_below_the_input_are_not_inputs_of_the_next_run(tree, call):
    for _ in range(2):
        code, _, err = call("shots", "-o", "shots/clean", "-r", "-m", "none", "--overwrite")
        assert code == 0
        assert err[-1].startswith("4 done in ")


def test_recursive_beside_the_inputs(tree, call):
    for done in (4, 0):
        code, _, err = call("shots", "-r", "-m", "none", "--skip-existing")
        assert code == 0
        assert err[-1].startswith(f"{done} done")
    assert (tree / "day1" / "deep" / "c_denoised.png").is_file()


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.tif"], ["b.tif"]),
        (["a.*", "c.*"], ["a.png", "day1/a.png", "day1/deep/c.png"]),
        (["day1/*"], ["day1/a.png", "day1/deep/c.png"]),
        (["*/deep/*"], ["day1/deep/c.png"]),
    ],
)
def test_pattern_picks_by_name_or_place(tree, call, patterns, expected):
    chosen = [word for pattern in patterns for word in ("--pattern", pattern)]
    assert call("shots", "-o", "out", "-r", *chosen, "-m", "none")[0] == 0
    assert written("out") == expected


def test_pattern_without_a_match_is_said(tree, call):
    code, _, err = call("shots", "-o", "out", "--pattern", "*.dng", "-m", "none")
    assert (code, len(err)) == (1, 1)
    assert "--pattern was *.dng" in err[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_read_does_not_stop_the_rest(tree, call):
    (tree / "day1" / "deep").chmod(0)
    try:
        code, _, err = call("shots", "-o", "out", "-r", "-m", "none")
    finally:
        (tree / "day1" / "deep").chmod(0o755)
    assert code == 1
    assert err[-2].startswith("3 done, 1 failed in ")
    assert "shots/day1/deep: cannot be listed" in err[-1]


def test_skip_existing_does_the_rest_and_touches_nothing(tree, call):
    (tree.parent / "out" / "day1").mkdir(parents=True)
    before = photo("out/day1/a.png", seed=9).read_bytes()
    code, out, err = call("shots", "-o", "out", "-r", "--skip-existing", "--json", "-m", "none")
    assert code == 0
    assert Path("out/day1/a.png").read_bytes() == before
    assert len(out.splitlines()) == 3
    assert err[-1].startswith("3 done, 1 skipped in ")
    code, out, err = call("shots", "-o", "out", "-r", "--skip-existing", "--json", "-m", "none")
    assert (code, out, len(err)) == (0, "", 1)
    assert err[0].startswith("0 done, 4 skipped in ")


def test_format_changes_the_suffix_and_its_collisions_are_refused_before_any_work(tree, call):
    photo("shots/a.tif", seed=7)
    before = files_below(tree.parent)
    code, _, err = call("shots", "-o", "out", "-r", "--format", "tiff", "-m", "none")
    assert (code, len(err)) == (2, 1)
    assert "both shots/a.png and shots/a.tif" in err[0]
    assert files_below(tree.parent) == before
    os.unlink("shots/a.tif")
    assert call("shots", "-o", "out", "-r", "--format", "tiff", "-m", "none")[0] == 0
    assert written("out") == ["a.tiff", "b.tiff", "day1/a.tiff", "day1/deep/c.tiff"]
    assert denoise_cli.read("out/a.tiff").metadata.format == "tiff"


def test_going_on_writes_a_page_again_but_replaces_no_other(tree, call):
    arguments = ["shots", "-o", "out", "--skip-existing", "--report", "page.html", "-m", "none"]
    assert call(*arguments)[0] == 0
    first = Path("page.html").read_text()
    photo("shots/new.png", seed=8)
    assert call(*arguments)[0] == 0
    assert first.count('<figure class="compare"') == 2
    second = Path("page.html").read_text()
    assert second.count('<figure class="compare"') == 1
    assert "2 skipped" in second
    Path("page.html").write_text("<p>somebody's own</p>")
    photo("shots/newer.png", seed=9)
    code, _, err = call(*arguments)
    assert (code, len(err)) == (2, 1)
    assert Path("page.html").read_text() == "<p>somebody's own</p>"


def test_reference_and_trace_keep_the_place(tree, call):
    arguments = ["-o", "out", "-r", "--reference", "shots", "--trace", "trace", "--json"]
    code, out, _ = call("shots", *arguments, "-m", "none")
    assert code == 0
    assert [json.loads(line)["psnr_input"] for line in out.splitlines()] == [None] * 4
    for place in ("a", "b", "day1/a", "day1/deep/c"):
        assert Path("trace", place, "trace.csv").is_file()


def test_shards_are_disjoint_and_complete(tree, call):
    outputs: list[str] = []
    counts = []
    for index in (1, 2, 3):
        code, out, _ = call(
            "shots", "-o", "out", "-r", "--shard", f"{index}/3", "--json", "-m", "none"
        )
        assert code == 0
        counts.append(len(out.splitlines()))
        outputs += [json.loads(line)["output"] for line in out.splitlines()]
    assert sorted(counts) == [1, 1, 2]
    assert sorted(outputs) == [f"out/{name}" for name in written("out")]
    assert len(written("out")) == 4
    # More shards than pictures: the last has nothing to do.
    assert call("shots", "-o", "more", "-r", "--shard", "9/9", "-m", "none")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--shard", "0/3"], "1 to N"),
        (["--shard", "4/3"], "1 to N"),
        (["--shard", "3"], "I/N"),
        (["--max-memory", "much"], "2GB"),
        (["--max-memory", "0"], "2GB"),
        (["--jobs", "0"], "--jobs"),
        (["--format", "gifx"], "no image format"),
        (["--skip-existing", "--overwrite"], "either"),
        (["--report", "page.pdf"], ".html"),
        pytest.param(["-O", "speed=1", "--jobs", "2"], "no option 'speed'", marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_2(tree, call, arguments, reason):
    code, out, err = call("shots", "-o", "out", *arguments, "-m", "none")
    assert (code, out, len(err)) == (2, "", 1)
    assert reason in err[0]
    assert not Path("out").exists()


# Several processes


def test_jobs_write_the_same_bytes(tree, call, tiny):
    (tree / "bad.png").write_text("no picture")
    assert call("shots", "-o", "one", "-r", "--steps", "2", "-O", "crop=64")[0] == 1
    process = start(
        *("shots", "-o", "two", "-r", "-j", "2", "--json", "--report", "page.html"),
        *("-w", tiny, "--steps", "2", "-O", "crop=64", "--precision", "fp32"),
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert len(out.splitlines()) == 4
    lines = err.splitlines()
    assert lines[-2].startswith("4 done, 1 failed in ")
    assert lines[-1].startswith("  shots/bad.png: not a picture but text")
    assert written("one") == written("two")
    assert len(written("one")) == 4
    for name in written("one"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    assert Path("page.html").read_text().count('<figure class="compare"') == 4


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_each_job_loads_the_network_once(folder, tiny, jobs):
    """The file of the weights is needed for the first pictures only."""
    weights = shutil.copy(tiny, folder / "mine.safetensors")
    (folder / "in").mkdir()
    process = endless(weights, "-j", jobs, count=16)
    begun("out", 6, process)
    os.unlink(weights)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "16 done" in err


def begun(folder, count, process):
    """Wait until there are `count` outputs."""
    deadline = time.monotonic() + 400
    while len(list(Path(folder).glob("[!.]*.png"))) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def endless(tiny, *more, count=40):
    """A run over in/ that takes long enough to be stopped in its middle."""
    for seed in range(count):
        photo(f"in/{seed:02}.png", shape=(160, 160, 3), seed=seed)
    return start("in", "-o", "out", "-w", tiny, "--steps", "30", "-O", "validate=false", *more)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_stopping_several_processes_leaves_whole_files_only(folder, tiny, number, code):
    (folder / "in").mkdir()
    process = endless(tiny, "-j", "2")
    begun("out", 2, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    names = written("out")
    assert 2 <= len(names) < 40
    for name in names:
        assert re.fullmatch(r"\d\d\.png", name)
        assert denoise_cli.read(Path("out", name)).samples.shape == (160, 160, 3)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_process_that_dies_fails_its_picture_only(folder, tiny):
    (folder / "in").mkdir()
    for seed in range(6):
        photo(f"in/{seed}.png", shape=(256, 256, 3), seed=seed)
    process = start(
        *("in", "-o", "out", "-j", "2", "-w", tiny, "--steps", "40", "-O", "validate=false")
    )
    begun("out", 1, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [
        pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "5 done, 1 failed" in err
    assert "its process ended (signal 9)" in err
    assert len(written("out")) == 5


# Killed in the middle, and run again


def kill_and_finish(tiny, count, corrupt, *more):
    """`count` pictures, some corrupt: killed in the middle, then finished. The second stderr."""
    Path("in").mkdir()
    bad = set(np.linspace(1, count - 2, corrupt).astype(int))
    for index in range(count):
        path = photo(f"in/{index:03}.png", shape=(64, 64, 3), seed=index)
        if index in bad:
            path.write_bytes(path.read_bytes()[:500])
    arguments = ["in", "-o", "out", "-w", tiny, "--steps", "3", "-O", "crop=64", *more]
    first = start(*arguments)
    begun("out", count // 3, first)
    first.kill()
    first.communicate()
    assert 0 < len([n for n in written("out") if not n.startswith(".")]) < count - corrupt
    second = start(*arguments, "--skip-existing")
    _, err = second.communicate(timeout=600)
    assert second.returncode == 1, err
    names = written("out")
    assert len(names) == count - corrupt
    for name in names:  # complete, and no partial file
        assert denoise_cli.read(Path("out", name)).samples.shape == (64, 64, 3)
    lines = err.splitlines()
    assert f", {corrupt} failed in " in lines[-corrupt - 1]
    assert [line.split(":")[0] for line in lines[-corrupt:]] == [
        f"  in/{index:03}.png" for index in sorted(bad)
    ]
    return err


def test_killed_and_run_again_is_complete(folder, tiny):
    kill_and_finish(tiny, 24, 3)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_two_hundred_killed_and_run_again_are_complete(folder, tiny, jobs):
    kill_and_finish(tiny, 200, 5, "-j", jobs)


def test_leftovers_of_the_dead_are_removed_and_others_kept(folder, call):
    (folder / "in").mkdir()
    photo("in/a.png")
    (folder / "out").mkdir()
    target = folder / "out" / "a.png"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = temporary.beside(target)
    machine, _, rest = mine.name[1:].split("-", 2)
    gone = target.with_name(f".{machine}-{dead.pid}-{rest}")
    elsewhere = target.with_name(f".00000000-{dead.pid}-{rest}")
    other = target.with_name(".hidden.part.png")
    for path in (mine, gone, elsewhere, other):
        path.write_bytes(b"half")
    assert call("in", "-o", "out", "-m", "none")[0] == 0
    assert written("out") == sorted([mine.name, elsewhere.name, other.name, "a.png"])


# Memory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the peak in /proc")
def test_max_memory_bounds_the_peak(folder, tiny):
    """Prediction of the whole at once takes much more; the limit makes tiles that fit."""
    from denoise_cli import checkpoints, networks

    weights = folder / "wide.safetensors"
    network = networks.build("mim-resunet", widths=[32, 32], blocks=1)
    checkpoints.save(weights, network, {"network": "mim-resunet", "supports": ["none"]})
    photo("large.png", shape=(1500, 1500, 3))

    def peak(*more):
        words = ["large.png", "-o", "out.png", "--overwrite", "-w", weights, *FLAGS, *more]
        words += ["--device", "cpu"]
        code = (
            "import sys\nfrom denoise_cli.cli import main\n"
            "try: main(sys.argv[1:])\nfinally: print(open('/proc/self/status').read())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) * 1024

    whole = peak("--tile", "0")
    assert whole > 700e6
    assert peak("--tile", "0", "--max-memory", "700MB") < 700e6


def test_too_little_memory_is_one_line(folder, call):
    photo()
    code, _, err = call("photo.png", "--max-memory", "1MB", "-m", "none")
    assert (code, len(err)) == (1, 1)
    assert err[0].startswith("denoise: photo.png: needs about ")
    assert "allowed; give a larger --max-memory" in err[0]
    assert not Path("photo_denoised.png").exists()


def test_too_little_memory_is_refused_before_the_adaptation(folder, fast):
    """The adapted network is saved as soon as there is one, before anything is predicted."""
    photo()
    adapted = ("--adapted-out", "adapted.safetensors")
    code, out, err = fast("photo.png", "--max-memory", "1MB", *adapted, "--json")
    assert (code, out, len(err)) == (1, "", 1)
    assert "allowed; give a larger --max-memory" in err[0]
    assert not Path("adapted.safetensors").exists()
    assert fast("photo.png", "--max-memory", "64GB", *adapted)[0] == 0
    assert Path("adapted.safetensors").exists()


def test_out_of_memory_takes_smaller_tiles(folder, tiny):
    """With an address space that the whole does not fit into, tiles are halved until they do."""
    photo("large.png", shape=(1400, 1400, 3))

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (int(1.6e9), int(1.6e9)))

    words = ["large.png", "-o", "out.png", "-w", tiny, *FLAGS, "--tile", "0"]
    process = start(*words, preexec_fn=limit)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert denoise_cli.read("out.png").samples.shape == (1400, 1400, 3)


# In a terminal


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_over_files_with_time_left(folder, tiny):
    import pty

    (folder / "in").mkdir()
    for seed in range(4):
        photo(f"in/{seed}.png", shape=(160, 160, 3), seed=seed)
    ours, theirs = pty.openpty()
    words = ["in", "-o", "out", "-w", str(tiny), "--steps", "5", "--device", "cpu"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-m", "denoise_cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    seen = bytearray()

    def listen():
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:
                return
            if not part:
                return
            seen.extend(part)

    reader = threading.Thread(target=listen)
    reader.start()
    assert process.wait(timeout=120) == 0
    reader.join(timeout=10)
    os.close(ours)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", bytes(seen)).decode()
    assert re.search(r"files\s.*[1-3]/4 .*left", text)
    assert "adapt" in text
    assert "4 done in" in text


def test_library_refuses_too_little_memory_too():
    denoiser = denoise_cli.Denoiser("none", max_memory=10**6, device="cpu")
    with pytest.raises(denoise_cli.errors.NotEnoughMemory, match="smallest tiles"):
        denoiser(noisy((64, 64)))
