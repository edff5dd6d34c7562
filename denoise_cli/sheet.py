"""A contact sheet: pictures side by side, each as a whole and as a zoomed crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    Entry = tuple[Picture, Sequence[str], bool]
    Box = tuple[int, int, int, int]

SHEET_WIDTH = 2400
SHEET_COLUMNS = 6  # at most
SHEET_CELL = 480  # greatest side of a crop, in pixels
ZOOM_SIDES = (32, 96)  # least and greatest side of the zoomed crop, in pixels
BACKGROUND, INK, FRAME = (24, 24, 24), (235, 235, 235), (90, 200, 90)
MARGIN, BORDER, LINE = 12, 5, 30


def busiest(picture: Picture) -> Box:
    """The box (left, top, right, bottom) of the most textured square of `picture`."""
    gray = np.asarray(picture.convert("L"), np.float64)
    least, greatest = ZOOM_SIDES
    side = min(max(min(gray.shape) // 4, least), greatest, *gray.shape)
    texture = np.zeros_like(gray)
    texture[1:] += np.abs(np.diff(gray, axis=0))
    texture[:, 1:] += np.abs(np.diff(gray, axis=1))
    # Sums over all squares, from the integral image.
    total = np.pad(texture.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = (int(i) for i in np.unravel_index(int(sums.argmax()), sums.shape))
    return left, top, left + side, top + side


def draw_sheet(entries: Sequence[Entry], box: Box) -> Picture:
    """Pictures side by side: captions, the picture made small, and a zoomed crop of it.

    Parameters
    ----------
    entries : sequence of (picture, lines, marked)
        Pictures of one size; up to two lines of caption; a marked one has a frame around it.
    box : tuple of int
        What is zoomed: left, top, right, bottom.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = math.ceil(len(entries) / SHEET_COLUMNS)
    columns = math.ceil(len(entries) / rows)
    cell = min((SHEET_WIDTH - MARGIN) // columns - MARGIN, SHEET_CELL)
    width, height = entries[0][0].size
    scale = min(cell / width, 1.25 * cell / height)
    thumb = (max(1, round(width * scale)), max(1, round(height * scale)))
    row_height = 2 * LINE + thumb[1] + MARGIN + cell + MARGIN
    sheet = Image.new(
        "RGB",
        (columns * (cell + MARGIN) + MARGIN, rows * (row_height + MARGIN) + MARGIN),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=22)
    for index, (picture, caption, kept) in enumerate(entries):
        x = MARGIN + index % columns * (cell + MARGIN)
        y = MARGIN + index // columns * (row_height + MARGIN)
        for line, text in enumerate(caption):
            draw.text((x, y + line * LINE), text, fill=FRAME if kept else INK, font=font)
        top = y + 2 * LINE
        sheet.paste(
            picture.resize(thumb, Image.Resampling.LANCZOS), (x + (cell - thumb[0]) // 2, top)
        )
        # Single pixels stay visible in the crop: what is noise must not be smoothed away.
        crop = picture.crop(box).resize((cell, cell), Image.Resampling.NEAREST)
        sheet.paste(crop, (x, top + thumb[1] + MARGIN))
        if kept:
            bottom = top + thumb[1] + MARGIN + cell
            frame = (x - BORDER, top - BORDER, x + cell + BORDER, bottom + BORDER)
            draw.rectangle(frame, outline=FRAME, width=BORDER)
    return sheet
