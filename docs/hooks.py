"""Writes the reference: a page for every public room, from what the rooms export.

Nothing here names a part. A new loss, or any other public name, is in the reference as soon as its
room exports it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

PACKAGE = "contrastive"
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_SHARED = (f"{PACKAGE}.config", PACKAGE)  # rooms that also export the names of others


@functools.cache
def rooms() -> tuple[str, ...]:
    """Returns the public modules with at least one public name, the package itself first."""
    package = importlib.import_module(PACKAGE)
    inside = (name for name in dir(package) if isinstance(getattr(package, name), ModuleType))
    found = (PACKAGE, *(f"{PACKAGE}.{name}" for name in inside))
    return tuple(room for room in found if public_names(room))


@functools.cache
def public_names(room: str) -> tuple[str, ...]:
    """Returns the public names of a room, without what it imports from elsewhere.

    Args:
      room: A module.
    """
    module = importlib.import_module(room)
    names = [name for name in dir(module) if not name.startswith("_")]
    values = {name: getattr(module, name) for name in names}
    chooses = "__dir__" in vars(module)  # other modules also hold what they import
    return tuple(
        name
        for name, value in values.items()
        if not isinstance(value, ModuleType) and (chooses or _is_ours(value))
    )


def _is_ours(value: Any) -> bool:
    return str(getattr(value, "__module__", PACKAGE)).partition(".")[0] == PACKAGE


def home(room: str, name: str) -> str:
    """Returns the full name of what a room exports, in the module that defines it.

    Args:
      room: The room.
      name: One of its public names.
    """
    value = getattr(importlib.import_module(room), name)
    if hasattr(value, "__module__") and _is_ours(value):
        return f"{value.__module__}.{name}"
    for place, module in sorted(sys.modules.items()):  # a constant does not know where it is from
        if place.startswith(f"{room}.") and name in getattr(module, "__all__", ()):
            return f"{place}.{name}"
    return f"{room}.{name}"


@functools.cache
def documented_in() -> dict[str, str]:
    """Returns the room whose page documents each object, by the object's full name.

    An object that several rooms export is documented in the most specific of them, and the others
    link to it.
    """
    places: dict[str, str] = {}
    own = [room for room in rooms() if room not in _SHARED]
    for room in (*own, *_SHARED):
        for name in public_names(room):
            places.setdefault(home(room, name), room)
    return places


def _short(room: str) -> str:
    return room.rpartition(".")[2]


def page_of(room: str) -> str:
    """Returns the path of a room's page.

    Args:
      room: The room.
    """
    return f"reference/{_short(room)}.md"


@functools.cache
def room_page(room: str) -> str:
    """Returns the Markdown of a room's page.

    Args:
      room: The room.
    """
    module = importlib.import_module(room)
    lines = [f"# {room}", "", _first_lines(module), ""]
    for base in _bases_of(room):
        lines += [f"## Subclasses of `{base.__name__}`", "", *part_table(base), ""]
    own, others = [], []
    for name in public_names(room):
        (own if documented_in()[home(room, name)] == room else others).append(name)
    lines += _own(room, own)
    if others:
        lines += ["## Also exported here", "", *_links(room, others), ""]
    return "\n".join(lines)


def _own(room: str, names: list[str]) -> Iterator[str]:
    """A block for each name, under the headings of classes, functions and constants."""
    module = importlib.import_module(room)
    kinds = {"Classes": inspect.isclass, "Functions": inspect.isfunction, "Constants": _is_constant}
    for heading, belongs in kinds.items():
        chosen = [name for name in names if belongs(getattr(module, name))]
        if chosen:
            yield from (f"## {heading}", "")
        for name in chosen:
            yield from (f"::: {home(room, name)}", "")


def _is_constant(value: Any) -> bool:
    return not inspect.isclass(value) and not inspect.isfunction(value)


def _links(room: str, names: list[str]) -> list[str]:
    module = importlib.import_module(room)
    lines = ["| name | | documented in |", "|---|---|---|"]
    for name in names:
        full = home(room, name)
        there = documented_in()[full]
        summary = _cell((getattr(module, name).__doc__ or "").strip().split("\n")[0])
        lines.append(f"| [`{name}`][{full}] | {summary} | [{there}]({_short(there)}.md) |")
    return lines


def _first_lines(module: ModuleType) -> str:
    text = inspect.getdoc(module) or ""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def bases() -> tuple[Any, ...]:
    """Returns the bases of parts, which every subclass makes itself known to."""
    return importlib.import_module(f"{PACKAGE}.config").BASES


def _bases_of(room: str) -> list[Any]:
    """The bases whose parts a room holds; the room of configs holds all."""
    if _short(room) == "config":
        return list(bases())
    module = importlib.import_module(room)
    return [base for base in bases() if getattr(module, base.__name__, None) is base]


def part_table(base: Any) -> list[str]:
    """Returns a table of the parts of a base: name, summary and the papers they are from.

    Args:
      base: A base, such as that of losses.
    """
    lines = ["| class | in JSON and flags | what it is | from |", "|---|---|---|---|"]
    for kind, part in sorted(base.known().items()):
        if not part.is_built_in():
            continue
        full = f"{part.__module__}.{part.__name__}"
        papers = ", ".join(f"[{x}](https://arxiv.org/abs/{x})" for x in papers_of(part))
        lines.append(
            f"| [`{part.__name__}`][{full}] | `{kind}` | {_cell(part.summary())} | {papers} |"
        )
    return lines


def papers_of(part: Any) -> list[str]:
    """Returns the arXiv ids of a part, or those of the functions in its module.

    Args:
      part: The class of a part.
    """
    module = sys.modules[part.__module__]
    functions = (getattr(module, name) for name in getattr(module, "__all__", ()))
    of_functions = " ".join(x.__doc__ or "" for x in functions if inspect.isfunction(x))
    found = _ARXIV.findall(part.__doc__ or "") or _ARXIV.findall(of_functions)
    return list(dict.fromkeys(found))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


@functools.cache
def help_text(*words: str) -> str:
    """Returns what a command says about itself.

    Args:
      *words: The command, without `--help`.
    """
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    ran = subprocess.run(
        [sys.executable, "-m", PACKAGE, *words, "--help"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout).rstrip()


@functools.cache
def commands() -> tuple[str, ...]:
    """Returns the names of the commands, as `contrastive --help` lists them."""
    listed = re.search(r"\{([a-z,]+)\}", help_text())
    assert listed, "contrastive --help lists no commands"
    return tuple(listed[1].split(","))


def command_page() -> str:
    """Returns the Markdown of the command line's page."""
    lines = [
        "# The command line",
        "",
        "What each command says when it is asked for `--help`. The flags of `train` and `sweep` "
        "are the fields of the experiment in the file, so "
        "`contrastive train FILE.py --help` lists those of your own parts too.",
        "",
    ]
    for command in commands():
        lines += [f"## {command}", "", "```text", help_text(command), "```", ""]
    return "\n".join(lines)


def index_page() -> str:
    """Returns the Markdown of the page that lists the rooms."""
    lines = ["# Reference", "", "| module | |", "|---|---|"]
    for room in rooms():
        about = _first_lines(importlib.import_module(room)).split("\n")[0]
        lines.append(f"| [`{room}`]({_short(room)}.md) | {_cell(about)} |")
    lines.append("| [`contrastive`, the command](command_line.md) | Every command and its flags. |")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Returns all generated pages, as Markdown by path."""
    return {
        "reference/index.md": index_page(),
        **{page_of(room): room_page(room) for room in rooms()},
        "reference/command_line.md": command_page(),
    }


def on_config(config: Any) -> Any:
    """Adds the reference to the navigation.

    Args:
      config: MkDocs' own.

    Returns:
      It, changed.
    """
    entries = ["reference/index.md", *({room: page_of(room)} for room in rooms())]
    config.nav.append({"Reference": [*entries, {"Command line": "reference/command_line.md"}]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages.

    Args:
      files: Those of the site.
      config: MkDocs' own.

    Returns:
      The files, with the pages.
    """
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def policy_table() -> list[str]:
    """Returns a table of who sets the temperature, with what to write for each policy."""
    policy = next(base for base in bases() if base.__name__ == "Policy")
    lines = ["| what it does | in Python | on the command line |", "|---|---|---|"]
    for kind, part in sorted(policy.known().items()):
        if not part.is_built_in():
            continue
        required = [name for name, field in part.model_fields.items() if field.is_required()]
        python = f"policy={part.__name__}({', '.join(f'{name}=...' for name in required)})"
        flags = [f"--loss.policy.{name.replace('_', '-')} ..." for name in required]
        flag = " ".join([f"loss.policy:{kind.replace('_', '-')}", *flags])
        full = f"{part.__module__}.{part.__name__}"
        lines.append(f"| [{_cell(part.summary())}][{full}] | `{python}` | `{flag}` |")
    return lines


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in generated tables, and takes the marks of blocks that the tests run off the page.

    Args:
      markdown: A page.

    Returns:
      The page as it is shown.
    """
    markdown = markdown.replace("<!-- policies -->", "\n".join(policy_table()))
    return re.sub(r"^(\s*```\w+) \{\.run\}$", r"\1", markdown, flags=re.MULTILINE)
