"""Every option of the command line: its type and its help, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import completion

_FILES, _METHOD, _PICTURES = "Files", "Method", "Pictures"
_SPEED, _REPORT = "Speed and memory", "Reports"

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT...",
        help="Images, or folders: then all images directly in them; - is standard input. A file "
        "that is called like a command is given as ./train.",
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
        "names and their places below the input folder in it. - is standard output. Default: "
        "NAME_denoised.SUFFIX beside the input; standard output for standard input.",
        show_default=False,
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(
        "--axes",
        metavar="LETTERS",
        help="What the dimensions of a stack are, such as TZCYX, where its file does not say or "
        "says it wrong: Y X, S (color samples), C (channels, denoised apart), Z, T.",
        show_default=False,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        "-r",
        help="Also images in folders below the given ones.",
        rich_help_panel=_FILES,
    ),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option(
        "--pattern",
        metavar="GLOB",
        help="Of folders, only images whose name matches, such as '*.tif'; with a slash, whose "
        "place below the folder does, such as 'day1/*'. May be given several times.",
        show_default=False,
        rich_help_panel=_FILES,
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave out images whose output exists: finishes what was interrupted.",
        rich_help_panel=_FILES,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=_FILES),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        autocompletion=completion.formats,
        help="Format of outputs whose name does not say it, on standard output and in folders, "
        "such as png or tiff. Default: the input's.",
        show_default=False,
        rich_help_panel=_FILES,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Images at a time, each in a process with a network and a share of the cores.",
        rich_help_panel=_SPEED,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N parts of the images (I from 1 to N), for arrays of batch jobs.",
        show_default=False,
        rich_help_panel=_FILES,
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="Main memory to stay below, such as 2GB or 1500MiB, for all --jobs together: tiles "
        "are made as small as that needs. The adaptation, which works on crops, may take more: "
        "about 0.35 GB, the method mpi 1.2 GB, beside an image.",
        show_default=False,
        rich_help_panel=_SPEED,
    ),
]

Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        autocompletion=completion.methods,
        help="How to adapt to each image; `denoise methods` lists them. Default: auto, or what the "
        "--weights given were made for.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        autocompletion=completion.methods,
        help="A method to compare, or nlm, wavelet or bm3d; may be given several times. "
        "Default: as of `denoise` itself.",
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
        autocompletion=completion.checkpoints,
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
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="fast|balanced|best",
        help="Time that the method auto may take: about 5, 35 or 50 seconds for a megapixel on one "
        "core. Default: balanced.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Adapt = Annotated[
    str,
    typer.Option(
        "--adapt",
        metavar="stack|slice",
        help="Adapt once, to planes from all over a stack, or to each plane on its own.",
        rich_help_panel=_METHOD,
    ),
]
AdaptedOut = Annotated[
    Path | None,
    typer.Option(
        "--adapted-out",
        metavar="FILE",
        help="Save the adapted network; `-w FILE -m none` denoises other images with it, such as "
        "the rest of a time-lapse.",
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
        autocompletion=completion.devices,
        help="auto, cpu, cuda, cuda:N or mps. One that is asked for and absent is an error.",
        rich_help_panel=_SPEED,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        autocompletion=completion.precisions,
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
        "same names. Of a camera raw file the clean mosaic: another raw file, or a gray 16-bit "
        "image of all its samples.",
        show_default=False,
        rich_help_panel=_REPORT,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Write a page to look at, in one file: before and after, crops, the noise and the "
        "adaptation of each image.",
        show_default=False,
        rich_help_panel=_REPORT,
    ),
]
Preview = Annotated[
    bool,
    typer.Option(
        "--preview",
        help="Show a crop of each image before and after, in the terminal.",
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
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Clean photos, searched recursively; noise is added to them.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]
TrainPairs = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--pairs",
        metavar="NOISY CLEAN",
        help="Instead: folders of noisy pictures and of their clean ones, by name.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]
TrainNoisy = Annotated[
    Path | None,
    typer.Option(
        "--noisy",
        metavar="FOLDER",
        help="Instead: noisy pictures alone, for noise that is independent between pixels.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]
TrainNoise = Annotated[
    str | None,
    typer.Option(
        "--noise",
        metavar="SPEC",
        help="Noise to add, such as gaussian:0-55, mix:gaussian:0-55*0.7/camera*0.3 or "
        "measured:PATH (dark frames and flat fields, or noisy pictures). Also poisson:PEAK, "
        "poisson-gaussian:SHOT,READ, speckle:VARIANCE, salt-pepper:AMOUNT, correlated:SIGMA,WIDTH, "
        "stripes:SIGMA, jpeg:QUALITY, bilateral:STRENGTH, clip, defocus:SIGMA; A+B is both.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]
RecipeOptions = Annotated[
    list[str] | None,
    typer.Option(
        "-O",
        "--option",
        metavar="NAME=VALUE",
        help="An option of the recipe; may be given several times.",
        show_default=False,
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="X|LOW-HIGH",
        help="For recipes that hide pixels: the fraction hidden, such as 0.3 or 0.8-0.95.",
        show_default=False,
    ),
]
SharedMask = Annotated[
    bool, typer.Option("--shared-mask", help="Hide a pixel in all channels or in none.")
]
Config = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="NAME=VALUE",
        help="An argument of the network, such as channels=1 or bias=false; may be given several "
        "times.",
        show_default=False,
    ),
]
SaveEvery = Annotated[
    str,
    typer.Option("--save-every", metavar="TIME", help="How often the state is saved."),
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, metavar="N", help="Threads that make batches.")
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
        help="Optimizer steps; without --time 20000, or 5000 from weights that fit.",
        show_default=False,
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="TIME",
        help="Wall-clock time to train for, such as 90s, 20m or 2h; the learning rate falls to "
        "zero along it.",
        show_default=False,
    ),
]
Batch = Annotated[
    str,
    typer.Option(
        "--batch",
        metavar="auto|N",
        help="Patches a step; halved when memory runs out.",
    ),
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
    typer.Option(
        "--init",
        metavar="NAME|FILE",
        help="Weights to start from; none: random ones. Default: for measured noise ttt-mim, "
        "otherwise none.",
        show_default=False,
    ),
]
Validation = Annotated[
    Path | None,
    typer.Option(
        "--val",
        metavar="FOLDER",
        help="Clean photos to validate on. Default: a few of --data, held out.",
        show_default=False,
        rich_help_panel=_PICTURES,
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
ComparedImage = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="A noisy image.", show_default=False)
]
ComparedReference = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="CLEAN",
        help="Its clean version, to score the results.",
        show_default=False,
    ),
]
ComparedMethods = Annotated[
    str,
    typer.Option(
        "--methods",
        "-m",
        metavar="NAME,...",
        help="What to compare, such as none,ttt-mim:ttt-mim-gaussian,nlm: names of methods, each "
        "with the checkpoint it uses after a colon where that is not its default.",
    ),
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The sheet, a PNG. Default: NAME_compare.png beside the image.",
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


def parse_axes(text: str | None) -> str | None:
    """``"tzcyx"`` -> ``"TZCYX"``."""
    if text is not None and not text.isalpha():
        raise UsageError(f"--axes {text!r} is not written with letters, such as TZCYX")
    return text.upper() if text else text


def parse_adapt(text: str) -> str:
    """``"stack"`` or ``"slice"``."""
    if text not in ("stack", "slice"):
        raise UsageError(f"--adapt {text!r} is neither stack nor slice")
    return text


def check_adapted_out(path: Path | None, adapt: str, inputs: int, *, overwrite: bool) -> None:
    """Refuse an --adapted-out that could not be written, or would be more than once."""
    if path is None:
        return
    if inputs > 1 or adapt != "stack":
        raise UsageError("--adapted-out saves one adaptation; give one input, and no --adapt slice")
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a checkpoint is called NAME.safetensors; give another name")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists; give --overwrite or another name")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first")


SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SIZES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str | None) -> int | None:
    """``"2GB"``, ``"1.5 GiB"``, ``"800M"`` (or a plain number) -> bytes."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None or not float(match[1]):
        raise UsageError(f"--max-memory {text!r} is no size; write it like 2GB or 1500MiB")
    return round(float(match[1]) * SIZES[match[2] or ""])
