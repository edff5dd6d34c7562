"""Write docs/cli.md: every command and option, as the command line itself declares them.

python docs/make_cli.py [OUTPUT]
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from denoise_cli.cli import DEFAULT, EXAMPLES, EXIT_CODES, MORE_EXAMPLES, app
from denoise_cli.noise import NOISES, written

PAGE = Path(__file__).with_name("cli.md")
INTRODUCTION = """\
# The command line

Written by `docs/make_cli.py` from the program itself; `denoise --help` and
`denoise COMMAND --help` show the same. Images are files, folders or `-` (standard input and
output). Messages go to standard error, data to standard output.

Shell completion of commands, options and their values: `denoise --install-completion` sets it up
for your shell, `denoise --show-completion` prints what it would install.
"""

NOISE = """\
## Noise

What `--noise SPEC` of `train` and `evaluate` may be. Pictures are on 0..1 there; nothing is clipped
or rounded unless a model says so. A number may be a range, as in `gaussian:5-50`, drawn anew for
each picture. `A+B` applies one after the other, `mix:A*WEIGHT/B*WEIGHT` draws one for each picture,
and `measured:PATH` is noise measured from frames.

"""


def main(output: str = str(PAGE)) -> None:
    Path(output).write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page as Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [INTRODUCTION, *_command(group.commands[DEFAULT], "denoise"), "## Examples\n"]
    wide = max(len(line) for line, _ in EXAMPLES)
    parts.append("```sh\n" + "".join(f"{a:{wide}}  # {b}\n" for a, b in EXAMPLES) + "```\n")
    parts.append("## Exit codes\n")
    parts.append("".join(f"- {code}: {means}\n" for code, means in EXIT_CODES))
    for name, command in group.commands.items():
        if not command.hidden:
            parts += _command(command, f"denoise {name}")
            if name in MORE_EXAMPLES:
                parts.append(f"```sh\n{MORE_EXAMPLES[name]}\n```\n")
    parts.append(NOISE + _table("Noise", list(_noises())))
    return "\n".join(parts)


def _noises() -> Iterator[tuple[str, str]]:
    """How each noise is written, and the first paragraph of what its class says."""
    for name, (model, _) in NOISES.items():
        first = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
        yield written(name), " ".join(first.split()).replace("``", "`")


def _command(command: Any, name: str) -> Iterator[str]:
    """A heading, the help and tables of the options of a command and those below it."""
    level = "#" * max(len(name.split()), 2)
    yield f"{level} `{name}`\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = " ".join(p.metavar or p.human_readable_name for p in arguments)
    below = getattr(command, "commands", {})
    yield f"```\n{' '.join(filter(None, [name, words, '[OPTIONS]']))}\n```\n"
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            panels.setdefault(parameter.rich_help_panel or "Options", []).append(parameter)
    if arguments:
        yield _table("Argument", [(p.metavar or p.name, p.help) for p in arguments])
    for panel, options in panels.items():
        yield _table(panel, [(_names(option), _help(option)) for option in options])
    for child, its in below.items():
        yield from _command(its, f"{name} {child}")


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    return ", ".join(option.opts) + value


def _help(option: Any) -> str:
    text = " ".join((option.help or "").split())
    if option.show_default and not option.is_flag and option.default is not None:
        text += f" Default: {option.default}."
    return text


def _table(title: str, rows: list[tuple[str, str | None]]) -> str:
    lines = [f"| {title} | |", "|---|---|"]
    lines += [f"| `{_cell(name)}` | {_cell(text or '')} |" for name, text in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
