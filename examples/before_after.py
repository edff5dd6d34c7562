"""Put pictures beside their denoised versions, half and half: the picture in the README.

python examples/before_after.py OUTPUT PICTURE...
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from denoise_cli import Denoiser, read

HEIGHT = 400


def panel(path: str, denoiser: Denoiser) -> Image.Image:
    """The left half as it was, the right half denoised, with a line between."""
    noisy = read(path)
    denoised = denoiser(noisy.samples, noisy.axes)
    middle = noisy.samples.shape[1] // 2
    both = np.concatenate([noisy.samples[:, :middle], denoised[:, middle:]], axis=1)
    picture = Image.fromarray(both).convert("RGB")
    ImageDraw.Draw(picture).line([(middle, 0), (middle, picture.height)], fill="white", width=2)
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT))


def main(output: str, *paths: str) -> None:
    denoiser = Denoiser()
    panels = [panel(path, denoiser) for path in paths]
    sheet = Image.new("RGB", (sum(p.width for p in panels), HEIGHT))
    left = 0
    for picture in panels:
        sheet.paste(picture, (left, 0))
        left += picture.width
    sheet.save(Path(output))


if __name__ == "__main__":
    main(*sys.argv[1:])
