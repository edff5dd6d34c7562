"""Pictures in a terminal: kitty's, iTerm2's and sixel graphics, half blocks everywhere else."""

from __future__ import annotations

import base64
import io
import os
import select
import sys
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .report import Report

if TYPE_CHECKING:
    from rich.console import RenderableType

GAP = 4  # pixels between before and after
GRAPHIC_WIDTH = 640  # of both together, in pixels
CHUNK = 4096  # bytes of base64 in one of kitty's messages
SIXEL_COLORS = 255
PATIENCE = 1.0  # seconds that a terminal has to say what it can
KITTY = ("kitty", "ghostty", "wezterm")


def show(before: np.ndarray, after: np.ndarray, report: Report) -> None:
    """Show two crops (Y, X, 3) of 8 bits side by side on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        report.line("denoise: no preview: standard error is no terminal")
        return
    kind = graphics(os.environ) or ("sixel" if _answers_sixel() else "blocks")
    if kind == "blocks":
        # Pixel by pixel, of what has room: made smaller, a picture would lose its noise.
        width = (_columns() - GAP) // 2
        report.draw(half_blocks(_beside(_middle(before, width), _middle(after, width))))
        return
    pair = _beside(before, after)
    zoom = max(1, GRAPHIC_WIDTH // pair.shape[1])
    encode = {"kitty": kitty, "iterm2": iterm2, "sixel": sixel}[kind]
    report.raw(encode(pair.repeat(zoom, axis=0).repeat(zoom, axis=1)) + "\n")


def graphics(environment: Mapping[str, str]) -> str | None:
    """What graphics a terminal is known to have by its variables: kitty, iterm2, sixel or None.

    Inside tmux and screen none is sure to arrive, so that blocks are drawn.
    """
    terminal = environment.get("TERM", "").lower()
    program = environment.get("TERM_PROGRAM", "").lower()
    if "TMUX" in environment or terminal.startswith(("screen", "tmux", "dumb", "linux")):
        return "blocks"
    if "KITTY_WINDOW_ID" in environment or program in KITTY or terminal == "xterm-kitty":
        return "kitty"
    if program == "iterm.app" or environment.get("LC_TERMINAL", "").lower() == "iterm2":
        return "iterm2"
    return "sixel" if "sixel" in terminal or terminal in ("foot", "mlterm") else None


def kitty(picture: np.ndarray) -> str:
    """Escape codes that draw `picture` (Y, X, 3): kitty's graphics protocol, transmit and show."""
    text = base64.b64encode(_png(picture)).decode()
    chunks = [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]
    codes = []
    for index, chunk in enumerate(chunks):
        control = "a=T,f=100," if index == 0 else ""
        more = int(index + 1 < len(chunks))
        codes.append(f"\x1b_G{control}m={more};{chunk}\x1b\\")
    return "".join(codes)


def iterm2(picture: np.ndarray) -> str:
    """The escape code of iTerm2's inline images."""
    png = _png(picture)
    return f"\x1b]1337;File=inline=1;size={len(png)}:{base64.b64encode(png).decode()}\a"


def sixel(picture: np.ndarray) -> str:
    """The picture as sixels (DEC STD 070, chapter 9): bands of six rows, a layer for each color."""
    from PIL import Image

    palette = Image.fromarray(picture).quantize(SIXEL_COLORS)
    colors = np.array(palette.getpalette(), int).reshape(-1, 3) * 100 // 255
    indices = np.asarray(palette)
    rows, columns = indices.shape
    codes = [f'\x1bPq"1;1;{columns};{rows}']
    codes += [f"#{i};2;{r};{g};{b}" for i, (r, g, b) in enumerate(colors)]
    weights = 1 << np.arange(6)[:, None]
    for top in range(0, rows, 6):
        band = indices[top : top + 6]
        for color in np.unique(band):
            bits = ((band == color) * weights[: len(band)]).sum(axis=0)
            codes.append(f"#{color}{_runs(bits)}$")
        codes.append("-")
    return "".join(codes) + "\x1b\\"


def half_blocks(picture: np.ndarray) -> RenderableType:
    """The picture in characters, two pixels each, one above the other."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    pixels = picture[: len(picture) // 2 * 2].tolist()
    text = Text(no_wrap=True)
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            style = Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))
            text.append("▀", style)
        text.append("\n")
    return text


def _beside(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    gap = np.zeros((len(before), GAP, 3), np.uint8)
    return np.concatenate([before, gap, after], axis=1)


def _middle(picture: np.ndarray, width: int) -> np.ndarray:
    """The middle of a picture, `width` across and three quarters of that high at most."""
    rows, columns = picture.shape[:2]
    height, width = min(rows, width * 3 // 4), min(columns, width)
    top, left = (rows - height) // 2, (columns - width) // 2
    return picture[top : top + height, left : left + width]


def _runs(bits: np.ndarray) -> str:
    """Sixel characters, those that repeat written with a count."""
    ends = np.flatnonzero(np.diff(bits, append=-1)) + 1
    lengths = np.diff(ends, prepend=0)
    letters = (chr(63 + int(bits[end - 1])) for end in ends)
    runs = zip(letters, lengths, strict=True)
    return "".join(letter * n if n < 4 else f"!{n}{letter}" for letter, n in runs)


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    return buffer.getvalue()


def _columns() -> int:
    try:
        return max(20, min(os.get_terminal_size(2).columns - 1, 120))
    except OSError:
        return 80


@cache
def _answers_sixel() -> bool:
    """Ask the terminal for its attributes (DA1); 4 among them means sixel graphics."""
    try:
        import termios
        import tty

        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except (ImportError, OSError):
        return False
    try:
        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal, termios.TCSANOW)
            os.write(terminal, b"\x1b[c")
            answer = _read_until(terminal, b"c")
        finally:
            termios.tcsetattr(terminal, termios.TCSANOW, before)
    except (termios.error, OSError):
        return False
    finally:
        os.close(terminal)
    return b"4" in answer.removeprefix(b"\x1b[?").removesuffix(b"c").split(b";")


def _read_until(terminal: int, end: bytes) -> bytes:
    answer, deadline = b"", time.monotonic() + PATIENCE
    while not answer.endswith(end) and (left := deadline - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            answer += os.read(terminal, 64)
    return answer
