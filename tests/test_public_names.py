"""Notebooks, experiments, README and guides use public names only."""

import ast
import re
from pathlib import Path

import pytest
from docs_hooks import hooks

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = hooks.PACKAGE
SCRIPTS = sorted([*(ROOT / "notebooks").glob("*.py"), *(ROOT / "experiments").rglob("*.py")])
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

# Private names that a file may use, with the reason.
EXCEPTIONS = {
    # Measures gradient caching, which has no public function apart from a training run.
    "experiments/papers/t8_scale.py": {
        "contrastive.data.tokens.pack",
        "contrastive.models.linen.embedder.Embedder",
    },
}
# Papers share functions with each other; their folder is also found as this package.
OWN = f"{PACKAGE}.experiments.papers."

_PYTHON_BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def is_public(name):
    """Whether a dotted name starts with a room, or with a room and one of its public names."""
    rooms, parts = hooks.rooms(), name.split(".")
    room = ".".join(parts[:2]) if ".".join(parts[:2]) in rooms else PACKAGE
    rest = parts[room.count(".") + 1 :]
    dunder = rest[:1] == ["__version__"] and room == PACKAGE
    return not rest or dunder or rest[0] in hooks.public_names(room)


def used_names(source):
    """Dotted names that code imports from the package, or reads as attributes of its rooms."""
    tree, names, modules = ast.parse(source), set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    names.add(alias.name)
                    modules[alias.asname or PACKAGE] = alias.name if alias.asname else PACKAGE
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name)
                if name in hooks.rooms():
                    modules[alias.asname or alias.name] = name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := _dotted(node)):
            first, _, rest = name.partition(".")
            if first in modules:
                names.add(f"{modules[first]}.{rest}")
    return names


def _dotted(node):
    """`a.b.c` of an attribute of an attribute of a name; an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := _dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def private_names(source):
    return {x for x in used_names(source) if not x.startswith(OWN) and not is_public(x)}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_scripts_use_public_names(file):
    exceptions = EXCEPTIONS.get(file.relative_to(ROOT).as_posix(), set())
    assert private_names(file.read_text(encoding="utf-8")) == exceptions


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_use_public_names(page):
    """A page may import the package in one block and use it in the next."""
    blocks = _PYTHON_BLOCK.findall(page.read_text(encoding="utf-8"))
    assert not private_names("\n".join([f"import {PACKAGE}", *blocks]))


@pytest.mark.parametrize(
    ("source", "private"),
    [
        ("import contrastive; contrastive.train; contrastive.losses.info_nce.__doc__", None),
        ("from contrastive import losses as l; l.info_nce, l.Loss", None),
        ("import numpy; numpy.contrastive.losses", None),
        ("import contrastive.training.loop", "contrastive.training.loop"),
        ("import contrastive.losses._tiles as t", "contrastive.losses._tiles"),
        ("from contrastive.sweeps import grid", "contrastive.sweeps.grid"),
        ("from contrastive.errors import Callable", "contrastive.errors.Callable"),
        ("import contrastive; contrastive.losses.gone(1)", "contrastive.losses.gone"),
        ("from contrastive import losses as l; l._loss", "contrastive.losses._loss"),
    ],
)
def test_private_names_are_found(source, private):
    assert private_names(source) == ({private} if private else set())


def test_dir_shows_public_names_only():
    import contrastive

    names = set(dir(contrastive)) - {"__version__"}
    assert all(name[0] != "_" for name in names)
    assert {name for name in names if is_public(f"{PACKAGE}.{name}")} == names
    assert {"train", "sweep", "Encoder", "config"} <= names
    assert not names & {"Any", "TYPE_CHECKING", "importlib", "annotations"}


def test_all_configs_are_imported_at_once():
    namespace = {}
    exec("from contrastive.config import *", namespace)
    assert {"Experiment", "Jsonl", "InfoNCE", "Retrieval"} <= namespace.keys()


def test_type_checkers_see_the_names_that_the_package_exports():
    """The package imports its names on first use, so it names them once more for type checkers."""
    import contrastive

    tree = ast.parse(Path(contrastive.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)
        for alias in node.names
    }
    exported = {(module, name) for module, names in contrastive._NAMES.items() for name in names}
    assert declared == exported
