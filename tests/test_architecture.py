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
    "whole_folders": 3,
    "parts": 2,
    "similarity": 2,
    "sources": 3,
    "data": 4,
    "models": 5,
    "losses": 6,
    "temperature": 7,
    "interop": 8,
    "encoding": 8,
    "writers": 8,
    "encoder": 9,
    "tasks": 10,
    "training": 11,
    "config": 12,
    "finetune": 12,
    "sweeps": 12,
    "folders": 13,
    "papers": 13,
    "runs": 13,
    "advice": 14,
    "reports": 15,
    "api": 16,
    "cli": 17,
    "__init__": 18,
    "__main__": 18,
    "experiments": 19,
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
