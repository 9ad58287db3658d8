"""The reference is complete, and the guides do what they say."""

import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from docs_hooks import hooks

from contrastive.cli import main

ROOT = Path(__file__).resolve().parents[1]


PUBLIC = [(room, name) for room in hooks.rooms() for name in hooks.public_names(room)]
OBJECTS = {
    hooks.home(room, name): getattr(importlib.import_module(room), name) for room, name in PUBLIC
}
FUNCTIONS = {name: x for name, x in OBJECTS.items() if inspect.isfunction(x)}
CLASSES = {name: x for name, x in OBJECTS.items() if inspect.isclass(x)}


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_has_a_first_line(name):
    own = vars(CLASSES[name]).get("__doc__") if name in CLASSES else FUNCTIONS[name].__doc__
    first = (own or "").strip().split("\n")[0]
    assert first.endswith((".", ":")), first


@pytest.mark.parametrize("name", FUNCTIONS)
def test_documents_arguments_and_returns(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    missing = [
        argument
        for argument in inspect.signature(function).parameters
        if not re.search(rf"^ +\**{argument}: ", text, flags=re.MULTILINE)
    ]
    assert not missing
    annotation = inspect.signature(function).return_annotation
    assert annotation in ("None", None) or "Returns:" in text


@pytest.mark.parametrize(("room", "name"), PUBLIC)
def test_is_in_the_reference(room, name):
    full = hooks.home(room, name)
    assert f"::: {full}\n" in hooks.room_page(hooks.documented_in()[full])
    page = hooks.room_page(room)
    assert f"::: {full}\n" in page or f"[`{name}`][{full}]" in page


@pytest.mark.parametrize("base", hooks.bases())
def test_tables_have_all_built_in_parts(base):
    table = "\n".join(hooks.part_table(base))
    for kind, part in base.known().items():
        if part.is_built_in():
            assert f"| `{kind}` | {part.summary()}" in table


def test_the_command_line_is_in_the_reference():
    page = hooks.command_page()
    assert "finetune" in hooks.commands()
    for command in hooks.commands():
        assert f"\n## {command}\n" in page
    assert "--model_name_or_path" in page


def test_guides_are_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in navigation


# What a page tells the reader to run
#
# A Python block whose first line is `# file: NAME` is a file of the reader's folder. A block marked
# {.run} is run in that folder: Python in one namespace of the page, and command lines one by one.

_VARIABLE = re.compile(r"[A-Z_]+=")
_BLOCK = re.compile(r"^```(\w+)( \{\.run\})?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def _blocks(page):
    for language, run, text in _BLOCK.findall(page.read_text()):
        if text.startswith("# file: "):
            name, _, rest = text.removeprefix("# file: ").partition("\n")
            yield "file", (name, rest)
        elif run:
            yield language, text


RUNNABLE = [page for page in sorted((ROOT / "docs").rglob("*.md")) if list(_blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    modules, namespace = set(sys.modules), {}
    for kind, what in _blocks(page):
        if kind == "file":
            Path(what[0]).write_text(what[1])
        elif kind == "python":
            exec(compile(what, str(page), "exec"), namespace)
        else:
            assert kind == "sh"
            for line in what.replace("\\\n", " ").splitlines():
                _run(shlex.split(line, comments=True))
    for name in set(sys.modules) - modules:  # other pages have files of the same names
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def _run(words):
    """Runs a command line, which may begin with variables of the environment, as in a shell."""
    count = next(n for n, word in enumerate(words) if not _VARIABLE.match(word))
    variables, words = dict(word.split("=", 1) for word in words[:count]), words[count:]
    if words[0] == "contrastive" and not variables:
        main(words[1:])
    else:
        start = {"contrastive": ["-m", "contrastive"], "python": []}[words[0]]
        command = [sys.executable, *start, *words[1:]]
        subprocess.run(command, check=True, env={**os.environ, **variables})
