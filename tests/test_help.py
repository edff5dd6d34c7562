"""Help with examples, completion, and the page of docs/ that is made from both."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from denoise_cli.cli import EXAMPLES, MORE_EXAMPLES

ROOT = Path(__file__).parent.parent


def test_page_in_the_docs_is_what_the_program_says(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    subprocess.run([sys.executable, ROOT / "docs" / "make_cli.py", made], check=True)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made.read_text(
        encoding="utf-8"
    ), "run python docs/make_cli.py"


def test_page_names_every_option_and_command() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for word in ("--recursive", "--max-memory", "`denoise weights pull`", "--install-completion"):
        assert word in text


def test_help_of_training_names_every_noise() -> None:
    from denoise_cli.cli.options import TrainNoise
    from denoise_cli.noise import NOISES

    text = TrainNoise.__metadata__[0].help
    assert [name for name in NOISES if name not in text] == []


def test_help_shows_the_examples(capsys) -> None:
    from denoise_cli.cli import main

    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for line, does in EXAMPLES:
        assert re.search(re.escape(line) + r"\s+" + re.escape(does), text)
    assert "130" in text
    for name, line in MORE_EXAMPLES.items():
        with pytest.raises(SystemExit):
            main([name, "--help"])
        words = " ".join(capsys.readouterr().out.split())
        assert line in words


def test_examples_use_options_that_exist() -> None:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    known = set(re.findall(r"--?[\w-]+", script.page().partition("## Examples")[0]))
    for line, _ in EXAMPLES:
        options = [w for w in shlex.split(line.split("denoise ")[1]) if re.match(r"-.", w)]
        assert set(options) <= known, line


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("denoise ", {"train", "weights", "info"}),
        ("denoise --re", {"--recursive", "--reference", "--report"}),
        ("denoise photo.png --skip", {"--skip-existing"}),
        ("denoise photo.png --method ", {"ttt-mim", "none"}),
        ("denoise -m none photo.png --weights ttt-mim-g", {"ttt-mim-gaussian"}),
        ("denoise weights p", {"pull", "path"}),
        ("denoise photo.png --format p", {"png"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash"])
def test_completion_offers(line: str, offered: set[str], shell: str) -> None:
    index = len(line.split()) - (not line.endswith(" "))
    variables = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(index),
        "_DENOISE_COMPLETE": f"complete_{shell}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "denoise_cli"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert offered <= set(done.stdout.split())


def test_files_are_left_to_the_shell() -> None:
    """Nothing is offered for a file's name, so that the shell completes it itself."""
    variables = {"COMP_WORDS": "denoise pho", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "denoise_cli"],
        env=os.environ | variables | {"_DENOISE_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")
