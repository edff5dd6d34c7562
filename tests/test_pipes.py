"""Standard input and output: `denoise - -o -`."""

import io
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
import tifffile
from helpers import files_below, noisy, photo
from PIL import Image

import denoise_cli
from denoise_cli.cli import main

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def pipe(folder, tiny, tmp_path_factory, monkeypatch, capfdbinary):
    """Run the command line with bytes on stdin: (exit code, stdout as bytes, stderr)."""
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def run(*args, data=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        settings = ["-w", str(tiny), "--device", "cpu", "-m", "none", "--precision", "fp32"]
        with pytest.raises(SystemExit) as exit_:
            main([*args, *settings])
        assert list(scratch.iterdir()) == []  # what was kept for the formats is gone
        captured = capfdbinary.readouterr()
        return exit_.value.code, captured.out, captured.err.decode()

    return run


def test_stack_through_a_pipe_is_the_stack_as_a_file(folder, pipe):
    """Format, type, axes and metadata as with files, to the byte; text on stderr only."""
    samples = noisy((3, 64, 70)).astype(np.uint16) * 16
    tifffile.imwrite("stack.tif", samples, imagej=True, metadata={"axes": "ZYX", "spacing": 0.5})
    code, out, err = pipe("-", "-o", "-", "-v", data=(folder / "stack.tif").read_bytes())
    assert code == 0, err
    assert err.startswith("- -> - (")
    assert pipe("stack.tif", "-o", "file.tiff")[:2] == (0, b"")
    assert out == (folder / "file.tiff").read_bytes()
    (folder / "piped.tif").write_bytes(out)
    image = denoise_cli.read("piped.tif")
    assert (image.samples.shape, image.axes) == (samples.shape, denoise_cli.read("stack.tif").axes)
    assert (image.samples != samples).any()


@pytest.mark.parametrize(
    ("format", "magic"), [(None, PNG), ("tiff", b"II*\0"), ("jpg", b"\xff\xd8")]
)
def test_format_of_the_output(folder, pipe, format, magic):
    """The input's, found in its bytes, or as asked for."""
    data = photo().read_bytes()
    code, out, err = pipe("-", "-o", "-", *(["--format", format] if format else []), data=data)
    assert code == 0, err
    assert out.startswith(magic)
    with Image.open(io.BytesIO(out)) as picture:
        assert picture.size == (64, 64)
    assert set(files_below(folder)) == {"photo.png"}


def test_stdin_alone_goes_to_stdout_and_either_to_files(folder, pipe):
    data = photo().read_bytes()
    both = pipe("-", data=data)[1]
    assert both.startswith(PNG)
    assert pipe("-", "-o", "out.png", data=data)[:2] == (0, b"")
    assert (folder / "out.png").read_bytes() == both
    assert pipe("photo.png", "-o", "-")[1] == both


def test_bad_input_leaves_stdout_empty(pipe, folder):
    code, out, err = pipe("-", "-o", "-", data=b"this is no picture")
    assert (code, out) == (1, b"")
    assert err.startswith("denoise: standard input: not a picture but text")
    assert len(err.splitlines()) == 1
    code, out, err = pipe("-", "-o", "-", data=b"")
    assert (code, out) == (1, b"")
    assert err.startswith("denoise: standard input: the file is empty")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-", "-o", "-", "--json"], "both go to standard output"),
        (["-", "--json"], "both go to standard output"),
        (["-", "photo.png"], "one image"),
        (["photo.png", "photo.png", "-o", "-"], "takes one image"),
    ],
)
def test_what_pipes_cannot_do_is_one_line_and_2(folder, call, arguments, reason):
    photo()
    code, out, err = call(*arguments, "-m", "none")
    assert (code, out, len(err)) == (2, "", 1)
    assert reason in err[0]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_no_bytes_of_pictures(folder, tiny):
    import pty

    photo()
    ours, theirs = pty.openpty()
    words = ["photo.png", "-o", "-", "-w", str(tiny), "-m", "none", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "denoise_cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"is a terminal" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs pipes of POSIX")
@pytest.mark.parametrize(
    "words",
    [
        ["photo.png", "-o", "-"],
        pytest.param(["big", "-o", "out", "--json"], marks=pytest.mark.slow),
    ],
)
def test_a_reader_that_goes_away_is_no_error(folder, tiny, words):
    """As with `| head -c 1`: no message, no traceback."""
    photo(shape=(300, 300, 3))
    (folder / "big").mkdir()
    for seed in range(3):
        photo(f"big/{seed}.png", seed=seed)
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "denoise_cli", *words, "-w", str(tiny), "-m", "none", "-q"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=120)
    assert err == ""
    assert process.returncode in (1, 141)


def test_noise_of_libraries_on_stdout_goes_to_stderr(folder, tiny):
    """Whatever prints while an image is on its way to stdout, in Python or below."""
    photo()
    code = (
        "import os, sys, denoise_cli.denoiser as d\n"
        "stream = d.Denoiser.stream\n"
        "def loud(*a, **k):\n"
        "    print('from Python'); os.write(1, b'from C\\n')\n"
        "    return stream(*a, **k)\n"
        "d.Denoiser.stream = loud\n"
        "from denoise_cli.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    words = ["photo.png", "-o", "-", "-w", str(tiny), "-m", "none", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout.startswith(PNG)
    with Image.open(io.BytesIO(done.stdout)) as picture:
        picture.load()
    assert b"from Python" in done.stderr
    assert b"from C" in done.stderr


@pytest.mark.slow
def test_a_slow_writer_is_waited_for(folder, tiny):
    data = photo().read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "denoise_cli", "-", "-w", str(tiny), "-m", "none", "-q"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    for part in (data[:5], data[5:900], data[900:]):
        process.stdin.write(part)
        process.stdin.flush()
        time.sleep(0.05)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out.startswith(PNG)
