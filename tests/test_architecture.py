"""The house: a file imports only from its own room and from lower floors."""

import ast
import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "contrastive"
FLOORS = {
    "errors": 0,
    "tables": 0,
    "types": 0,
    "files": 1,
    "json_files": 1,
    "lazy": 1,
    "python_files": 1,
    "settings": 1,
    "devices": 2,
    "digests": 2,
    "cache": 3,
    "whole_folders": 3,
    "parts": 2,
    "similarity": 2,
    "sources": 4,
    "data": 5,
    "models": 6,
    "losses": 7,
    "temperature": 8,
    "interop": 9,
    "encoding": 9,
    "writers": 9,
    "encoder": 10,
    "tasks": 11,
    "training": 12,
    "config": 13,
    "finetune": 13,
    "sweeps": 13,
    "folders": 14,
    "papers": 14,
    "runs": 14,
    "advice": 15,
    "reports": 16,
    "api": 17,
    "cli": 18,
    "__init__": 19,
    "__main__": 19,
    "experiments": 20,
}


def files():
    """All files of the package, with those of experiments, which are linked into it."""
    return [
        Path(folder) / name
        for folder, _, names in os.walk(PACKAGE, followlinks=True)
        for name in names
        if name.endswith(".py")
    ]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def exporter(alias: ast.alias) -> str:
    """The room of `from contrastive import ...`; what is no room comes from the package itself."""
    return alias.name if alias.name in FLOORS else "__init__"


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "contrastive":
            names = [node.module]
        elif isinstance(node, ast.ImportFrom) and node.module == "contrastive":
            names = [f"contrastive.{exporter(alias)}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from ((node.lineno, n.split(".")) for n in names if n.startswith("contrastive."))


def test_every_file_has_a_floor():
    assert {room(path) for path in files()} == set(FLOORS)


def test_imports_go_down():
    climbs = [
        f"{path.relative_to(PACKAGE)}:{line} imports {'.'.join(target)}"
        for path in files()
        for line, target in imports(path)
        if target[1] != room(path) and FLOORS[target[1]] >= FLOORS[room(path)]
    ]
    assert not climbs, "\n".join(climbs)


def test_files_stay_readable():
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in files()
        if (lines := len(path.read_text().splitlines())) > (450 if room(path) == "models" else 320)
    }
    assert not long
