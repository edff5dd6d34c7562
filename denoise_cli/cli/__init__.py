"""The command line: `denoise INPUT...` and its subcommands."""

from __future__ import annotations

import inspect
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from copy import copy
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import DenoiseError
from . import catalog, compare, evaluate, run, train, weights
from .report import internal_error

DEFAULT = "run"  # the hidden command that `denoise INPUT...` stands for

# Command lines and what they do, at the end of the help and in docs/cli.md.
EXAMPLES = (
    ("denoise photo.jpg", "writes photo_denoised.jpg beside it"),
    ("denoise shots/ -o clean/ -r --skip-existing -j 2", "a tree of folders; again to go on"),
    ("denoise shots/ -o clean/ --report page.html", "a page with each image before and after"),
    ("denoise stack.tif -o clean.tif --max-memory 2GB", "a stack, in bounded memory"),
    ("cat scan.tif | denoise - -o - --format png > scan.png", "in a pipe"),
    ("denoise scans/ -o clean/ --shard 3/8 --json", "the third of eight batch jobs"),
    ("denoise info photo.jpg", "what it is, and what noise it has"),
)
EXIT_CODES = (
    (0, "all done"),
    (1, "an image failed; the others are done"),
    (2, "wrong usage; nothing was done"),
    (130, "interrupted; no half-written file is left"),
)
# The same for the other commands.
MORE_EXAMPLES = {
    "train": "denoise train --data photos/ --noise gaussian:0-55 --time 60 -o mine.safetensors",
    "evaluate": "denoise evaluate --clean photos/ --noise gaussian:25 -m none -m ttt-mim",
    "compare": "denoise compare photo.jpg --methods none,ttt-mim,nlm -o sheet.png",
    "methods": "denoise methods ttt-mim",
    "info": "denoise info photo.jpg --json",
}


class DefaultGroup(TyperGroup):
    """A group whose default command needs no name: `denoise photo.png`.

    The first argument decides: the name of a subcommand starts that, anything else is the default
    command's. A file that is called like a subcommand is given as ``./train``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # which only a shell that completes asks for
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        if args and args[0] not in self.commands:
            own = {option for param in self.get_params(ctx) for option in param.opts}
            wanted = [arg for arg in args if arg in own]
            args = wanted or [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["INPUT... [OPTIONS]  |  COMMAND [ARGS]..."]

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What may stand first: commands, and the default command's options."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            default = self.commands[DEFAULT]
            with default.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True) as its:
                found += default.shell_complete(its, incomplete)
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        # One page for all: the default command's options, then the subcommands.
        page = copy(self)
        page.params = [*self.commands[DEFAULT].params, *self.params]
        super(DefaultGroup, page).format_help(ctx, formatter)
        wide = max(len(line) for line, _ in EXAMPLES)
        typer.echo(" Examples\n")
        for line, does in EXAMPLES:
            typer.echo(f"   {line:{wide}}  {does}")
        typer.echo("\n Exit codes\n")
        for code, means in EXIT_CODES:
            typer.echo(f"   {code:<4} {means}")


app = typer.Typer(
    name="denoise",
    cls=DefaultGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"denoise {__version__}")
        raise typer.Exit


def _help(command: Callable[..., None]) -> str:
    """The docstring with a line a paragraph: the terminal's width decides where it breaks."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@app.callback(help=_help(run.run))
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


app.command(DEFAULT, hidden=True, help=_help(run.run))(run.run)
for _name, _command in (
    ("train", train.train),
    ("evaluate", evaluate.evaluate),
    ("compare", compare.compare),
    ("methods", catalog.methods),
    ("info", catalog.info),
):
    _example = f"Example: [bold]{MORE_EXAMPLES[_name]}[/]"
    app.command(_name, help=_help(_command), epilog=_example)(_command)
app.add_typer(weights.app, name="weights")


def main(args: list[str] | None = None) -> None:
    """Run the command line with `args` (default: those of the process); exits with its code.

    0: all done; 1: an input failed; 2: wrong usage, nothing done; 130: interrupted.
    Nothing is said when nobody reads stdout any more.
    """
    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    if not debug:
        _silence_libraries()
    previous = _end_cleanly()
    try:
        code = app(args=args, prog_name="denoise", standalone_mode=False)
    except DenoiseError as error:
        code = _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        # The parser's own errors are typer's or click's classes, as the version of typer goes.
        if hasattr(error, "format_message"):
            hint = "see denoise --help"
            code = _complain(f"{error.format_message().rstrip('.')}; {hint}", 2)
        elif debug:
            raise
        else:
            code = _complain(internal_error(error), 1)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    sys.exit(code or 0)


def _end_cleanly() -> dict[int, Any]:
    """Let what ends the process (a batch system, a closed terminal) clean up half-written files.

    Returns the handlers that were there.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    wanted = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    present = [number for number in wanted if number is not None]
    previous = {n: signal.getsignal(n) for n in present if signal.getsignal(n) is signal.SIG_DFL}
    for number in previous:
        signal.signal(number, _end)
    return previous


def _end(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once: it must not disturb the cleaning up
    raise SystemExit(128 + number)


def _complain(message: str, code: int) -> int:
    print(f"denoise: {message}", file=sys.stderr)
    return code


def _silence_libraries() -> None:
    """Keep warnings that are not ours off stderr: a file has one line there, or none."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
