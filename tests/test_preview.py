"""--preview: graphics where a terminal has them, half blocks elsewhere, nothing in a file."""

import base64
import io
import os
import re
import select
import sys
import time

import numpy as np
import pytest
from helpers import noisy, photo
from PIL import Image

from denoise_cli.cli import preview


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x,1,0"}, "blocks"),
        ({"TERM": "dumb"}, "blocks"),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_terminals_are_told_by_their_variables(variables, kind):
    assert preview.graphics(variables) == kind


def test_kitty_codes_hold_the_picture():
    picture = noisy((40, 60, 3))
    codes = preview.kitty(picture)
    messages = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", codes)
    assert "".join(f"\x1b_G{control};{text}\x1b\\" for control, text in messages) == codes
    assert messages[0][0].startswith("a=T,f=100,")
    assert all(len(text) <= 4096 for _, text in messages)
    assert [control[-3:] for control, _ in messages] == ["m=1"] * (len(messages) - 1) + ["m=0"]
    png = base64.b64decode("".join(text for _, text in messages))
    assert (np.asarray(Image.open(io.BytesIO(png))) == picture).all()


def test_iterm2_code_holds_the_picture():
    picture = noisy((40, 60, 3))
    match = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+):(.*)\x07", preview.iterm2(picture))
    png = base64.b64decode(match[2])
    assert len(png) == int(match[1])
    assert (np.asarray(Image.open(io.BytesIO(png))) == picture).all()


def decoded_sixels(codes: str) -> np.ndarray:
    """A sixel picture, drawn as a terminal draws it."""
    match = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', codes, re.DOTALL)
    columns, rows = int(match[1]), int(match[2])
    picture = np.full((rows + 6, columns, 3), -1)
    colors: dict[int, list[int]] = {}
    x = y = color = 0
    token = re.compile(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])")
    for part in token.finditer(match[3]):
        if part[1]:
            color = int(part[1])
            if part[2]:
                colors[color] = [int(part[i]) for i in (2, 3, 4)]
        elif part[8]:
            x, y = 0, y + 6 * (part[8] == "-")
        else:
            count, bits = int(part[5] or 1), ord(part[6] or part[7]) - 63
            for row in range(6):
                if bits >> row & 1:
                    picture[y + row, x : x + count] = colors[color]
            x += count
    return picture[:rows]


@pytest.mark.parametrize("shape", [(12, 20, 3), (17, 33, 3)])
def test_sixels_draw_the_picture(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    picture = np.stack([x * 7, y * 13, (x + y) * 4], axis=-1).astype(np.uint8)
    drawn = decoded_sixels(preview.sixel(picture))
    assert drawn.min() >= 0  # every pixel is drawn
    assert np.abs(drawn * 2.55 - picture).mean() < 12  # 255 colors in steps of 1 %


def test_without_a_terminal_there_is_a_line_and_no_codes(folder, call):
    photo()
    code, out, err = call("photo.png", "-m", "none", "--preview")
    assert (code, out) == (0, "")
    assert "no preview" in err[-1]
    assert "\x1b" not in "".join(err)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("terminal", "answer", "codes"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, b"", "\x1b\\[[0-9;]*38;2;.*▀"),
        ({"TERM": "xterm-256color"}, b"\x1b[?62;4;22c", '\x1bPq"1;1;'),
        ({"TERM": "xterm-kitty"}, b"", "\x1b_Ga=T,f=100,"),
    ],
    ids=["half blocks", "sixel", "kitty"],
)
def test_preview_in_a_terminal(folder, tiny, terminal, answer, codes):
    """In a real (pseudo-)terminal, which answers to the question for its attributes or not."""
    import pty

    photo(shape=(90, 120, 3))
    words = ["photo.png", "-w", str(tiny), "-m", "none", "--device", "cpu", "--preview"]
    kept = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TERM_PROGRAM", "NO_COLOR")}
    process, terminal_end = pty.fork()
    if process == 0:
        os.environ.clear()
        os.environ.update(kept | terminal)
        os.execv(sys.executable, [sys.executable, "-m", "denoise_cli", *words])
    seen, answered, deadline = b"", False, time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([terminal_end], [], [], 0.1)[0]:
            continue
        try:
            part = os.read(terminal_end, 1 << 16)
        except OSError:  # the process is gone
            break
        if not part:
            break
        seen += part
        if not answered and b"\x1b[c" in seen and answer:
            os.write(terminal_end, answer)
            answered = True
    _, status = os.waitpid(process, 0)
    os.close(terminal_end)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    text = seen.decode("utf-8", "replace")
    assert re.search(codes, text), text[-2000:]
    assert "photo_denoised.png" in text
