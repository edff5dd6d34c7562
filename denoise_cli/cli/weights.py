"""`denoise weights`: list, explain, download, check, remove and import checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UnwritableOutput, UsageError
from . import options
from .catalog import show, show_record
from .report import Report

app = typer.Typer(help="List and manage the checkpoints.", invoke_without_command=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A checkpoint of the list.", show_default=False)
]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Checkpoints of the list.", show_default=False),
]
OneOrAll = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="One checkpoint; without, all that are here.", show_default=False
    ),
]
Foreign = Annotated[
    Path, typer.Argument(metavar="FILE", help="The authors' file.", show_default=False)
]
ImportedAs = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="NAME|FILE",
        help="The name that -w will know it by, or a .safetensors file to write.",
        show_default=False,
    ),
]


@app.callback()
def weights(context: typer.Context) -> None:
    """List and manage the checkpoints."""
    if context.invoked_subcommand is None:
        list_weights()


@app.command("list")
def list_weights(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """List the checkpoints that -w NAME can name."""
    from rich.table import Table

    from ..checkpoints import info, names

    report = Report(as_json=as_json)
    table = Table("name", "methods", "noise", "size", "", "", box=None, padding=(0, 2))
    for name in names():
        entry = info(name)
        report.data(entry)
        methods, noise = ", ".join(entry["supports"]), str(entry.get("noise", ""))
        table.add_row(name, methods, noise, _size(entry), _state(entry), entry.get("title", ""))
    if not as_json:
        show(table)


@app.command("info")
def show_weights(name: Name, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Show all that is known of one checkpoint."""
    from ..checkpoints import info

    entry = info(name)
    if as_json:
        Report(as_json=True).data(entry)
        return
    lines: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            lines |= {f"{key}.{part}": number for part, number in value.items()}
        else:
            lines[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
    lines["path"] = entry["path"] or "not here"
    show_record({key: value for key, value in lines.items() if value is not None})


@app.command("pull")
def pull(
    names: Names,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Download checkpoints, so that they can be used without a network."""
    report = Report(quiet=quiet)
    with report.progress(percent=True):
        for name in names:
            with report.catch():
                report.line(f"{name}: {_fetch(report, name, offline=offline)}")
    raise typer.Exit(report.exit_code(len(names)))


@app.command("verify")
def verify(name: OneOrAll = None, debug: options.Debug = False) -> None:
    """Check that the files of checkpoints are whole and right."""
    from .. import checkpoints, store

    report = Report()
    names = [name] if name else store.names()
    for each in names:
        with report.catch():
            path = store.verify(each)
            if path is None:
                typer.echo(f"{each}: not here")
            elif store.info(each)["imported"]:
                checkpoints.load(path)
                typer.echo(f"{each}: readable ({path}; imported, so no SHA-256 is known)")
            else:
                typer.echo(f"{each}: right ({path})")
    raise typer.Exit(report.exit_code(len(names)))


@app.command("path")
def show_path(debug: options.Debug = False) -> None:
    """Print the folder of downloaded and imported checkpoints."""
    from ..store import cache_folder

    typer.echo(cache_folder())


@app.command("remove")
def remove(name: Name, debug: options.Debug = False) -> None:
    """Delete the file of a downloaded or imported checkpoint."""
    from .. import store

    Report().line(f"{name}: {store.remove(name)} removed")


@app.command("import")
def import_weights(
    file: Foreign,
    output: ImportedAs,
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Convert a checkpoint that a paper's authors publish.

    Known are those of TTT-MIM, MPI, bias-free denoising and masked image training.
    """
    from .. import checkpoints, published, store

    is_file = Path(output).name != output or output.endswith(".safetensors")
    target = Path(output) if is_file else store.import_path(output)
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists; give --overwrite or another -o")
    if is_file and target.suffix != ".safetensors":
        raise UsageError(f"{target}: a checkpoint's name ends in .safetensors; give another -o")
    network, header = published.convert(file)
    if not is_file:
        store.make_folder(target.parent)
    elif not target.parent.is_dir():
        raise UnwritableOutput(f"{target.parent}: no such folder; create it or give another -o")
    checkpoints.save(target, network, header, half=False)
    methods = ", ".join(header["supports"])
    Report().line(
        f"{file} -> {target} ({header['title']}; methods: {methods}); use it with -w {output}"
    )


def have_weights(report: Report, weights: str | None, method: str | None, *, offline: bool) -> None:
    """Fetch the checkpoints before work starts, so that their download can be watched.

    What is wrong with `weights` or `method` themselves is left to `Denoiser` to say.
    """
    from ..checkpoints import default_for, default_method, names
    from ..methods import METHODS, method_class

    if method is None and weights is None:
        method = default_method(None)
    needed = [weights]
    if method in METHODS:
        needed = [weights or default_for(method), *getattr(method_class(method), "networks", ())]
    known = names()
    found = [name for name in needed if name in known]
    if found:
        with report.progress(percent=True):
            for name in found:
                _fetch(report, str(name), offline=offline)


def _fetch(report: Report, name: str, *, offline: bool) -> Path:
    from ..store import fetch

    report.start(name)
    return fetch(name, offline=offline, progress=lambda *state: report.step("download", *state))


def _size(entry: dict[str, Any]) -> str:
    size = entry.get("size") or Path(entry["path"]).stat().st_size
    return f"{size / 1e6:.1f} MB"


def _state(entry: dict[str, Any]) -> str:
    if entry["imported"]:
        return "imported"
    return "here" if entry["path"] else "not here"
