"""Denoise a picture from Python, and see what was decided.

python examples/python_api.py [PICTURE [OUTPUT]]
"""

import sys
from dataclasses import replace
from pathlib import Path

from denoise_cli import Denoiser, read, write

DATA = Path(__file__).parent / "data"


def main(picture: str = str(DATA / "brain_two_photon.png"), output: str = "denoised.png") -> None:
    noisy = read(picture)
    denoiser = Denoiser("ttt-mim", seed=0)  # build it once, call it for many pictures
    result = denoiser.run(noisy.samples, noisy.axes)
    write(output, replace(noisy, samples=result.samples), overwrite=True)
    print(f"{output}: {result.reason} ({result.seconds:.1f} s)")


if __name__ == "__main__":
    main(*sys.argv[1:])
