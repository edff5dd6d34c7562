"""Every option of the command line: its type and its help, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError

DEFAULT_METHOD = "ttt-mim"

_METHOD, _SPEED, _REPORT = "Method", "Speed and memory", "Reports"

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT...",
        help="Images, or folders: then all images directly in them. A file that is called like a "
        "command is given as ./train.",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|FOLDER",
        help="Where to write. Several inputs need a folder; it is created, and files keep their "
        "names in it. Default: NAME_denoised.SUFFIX beside the input.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]

Method = Annotated[
    str,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        help="How to adapt to each image; `denoise methods` lists them.",
        rich_help_panel=_METHOD,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        help=f"A method to compare; may be given several times. Default: {DEFAULT_METHOD}.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="The checkpoint: a name from `denoise weights` or a .safetensors file. Default: the "
        "first that supports the method.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Never download weights; those that are not here are an error. Same as "
        "DENOISE_OFFLINE=1.",
        rich_help_panel=_METHOD,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=0,
        metavar="N",
        help="Gradient steps of the adaptation. Default: the method's own.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-O",
        metavar="NAME=VALUE",
        help="An option of the method; may be given several times.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        "--strength",
        min=0.0,
        max=1.0,
        metavar="X",
        help="Blend of the input (0) and the denoised image (1).",
        rich_help_panel=_METHOD,
    ),
]
KnownNoise = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="SPEC",
        help="What is known of the noise, for methods and networks that use it: gaussian:SIGMA "
        "(0..255), poisson:PEAK or poisson-gaussian:SHOT,READ. Default: estimated.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        metavar="N",
        help="Same seed, same result.",
        rich_help_panel=_METHOD,
    ),
]

Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="auto, cpu, cuda, cuda:N or mps. One that is asked for and absent is an error.",
        rich_help_panel=_SPEED,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="auto, fp32, bf16 or fp16; auto is what the device does well.",
        rich_help_panel=_SPEED,
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        metavar="auto|N",
        help="Side of the square tiles in pixels; 0 is the whole image at once.",
        rich_help_panel=_SPEED,
    ),
]
Overlap = Annotated[
    int,
    typer.Option(
        "--overlap",
        min=0,
        metavar="N",
        help="Pixels by which neighboring tiles overlap.",
        rich_help_panel=_SPEED,
    ),
]

Trace = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="FOLDER",
        help="Write every step of the adaptation there: pictures, trace.csv and "
        "contact_sheet.png. Several inputs get a folder each.",
        show_default=False,
        rich_help_panel=_REPORT,
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="CLEAN",
        help="The clean image, to report PSNR and SSIM; for several inputs a folder with the "
        "same names.",
        show_default=False,
        rich_help_panel=_REPORT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object per image on stdout.", rich_help_panel=_REPORT
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_REPORT)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print device, precision, weights and why a step was kept.",
        rich_help_panel=_REPORT,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", help="Show the traceback of an internal error.", rich_help_panel=_REPORT
    ),
]


Data = Annotated[
    Path, typer.Option("--data", metavar="FOLDER", help="Clean photos, searched recursively.")
]
TrainNoise = Annotated[
    str,
    typer.Option(
        "--noise",
        metavar="SPEC",
        help="Noise to train on, such as gaussian:0-55 or mix:gaussian:0-55*0.7/camera*0.3.",
    ),
]
Checkpoint = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The .safetensors file to write.")
]
Recipe = Annotated[str, typer.Option("--recipe", metavar="NAME", help="How to train.")]
TrainSteps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        metavar="N",
        help="Optimizer steps; 20000 without --time.",
        show_default=False,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--time",
        min=0.0,
        metavar="MINUTES",
        help="Wall-clock time to train for; the learning rate falls to zero along it.",
        show_default=False,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, metavar="N", help="Patches a step.", show_default=False),
]
Patch = Annotated[
    int | None,
    typer.Option(
        "--patch", min=16, metavar="N", help="Side of a patch in pixels.", show_default=False
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option("--lr", min=0.0, metavar="X", help="Learning rate.", show_default=False),
]
Network = Annotated[
    str | None, typer.Option("--network", metavar="NAME", help="The network.", show_default=False)
]
Init = Annotated[
    str | None,
    typer.Option("--init", metavar="NAME|FILE", help="Weights to start from.", show_default=False),
]
Validation = Annotated[
    Path | None,
    typer.Option(
        "--val",
        metavar="FOLDER",
        help="Clean photos to validate on. Default: a few of --data, held out.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run, same arguments.")
]

CleanFolder = Annotated[Path, typer.Option("--clean", metavar="FOLDER", help="Clean images.")]
NoisyFolder = Annotated[
    Path | None,
    typer.Option(
        "--noisy", metavar="FOLDER", help="Their noisy versions, by name.", show_default=False
    ),
]
Noises = Annotated[
    list[str] | None,
    typer.Option(
        "--noise",
        metavar="SPEC",
        help="Noise to add instead, such as gaussian:25; may be given several times.",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        metavar="N",
        help="Only N images, evenly spread over the sorted list.",
        show_default=False,
    ),
]


def parse_options(texts: list[str] | None) -> dict[str, str]:
    """``["lr=1e-5"]`` -> ``{"lr": "1e-5"}``; the method converts and checks the values."""
    options: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"-O {text!r} is not written NAME=VALUE")
        options[name.strip().replace("-", "_")] = value.strip()
    return options


def parse_tile(text: str) -> int | str:
    """``"auto"`` or a side in pixels, 0 for none."""
    if text == "auto" or not text.isdigit():
        if text != "auto":
            raise UsageError(f"--tile {text!r} is neither auto nor a number of pixels")
        return text
    return int(text)
