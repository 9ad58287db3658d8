"""The house: a file imports only from its own room and from lower floors."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "contrastive"
FLOORS = {
    "types": 0,
    "config": 0,
    "errors": 0,
    "losses": 1,
    "temperature": 2,
    "models": 3,
    "data": 3,
    "interop": 4,
    "evaluation": 5,
    "training": 6,
    "finetune": 7,
    "lab": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 9,
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "contrastive":
            names = [node.module]
        elif isinstance(node, ast.ImportFrom) and node.module == "contrastive":
            names = [f"contrastive.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from ((node.lineno, n.split(".")) for n in names if n.startswith("contrastive."))


def test_every_file_has_a_floor():
    assert {room(path) for path in PACKAGE.rglob("*.py")} == set(FLOORS)


def test_imports_go_down():
    climbs = [
        f"{path.relative_to(PACKAGE)}:{line} imports {'.'.join(target)}"
        for path in PACKAGE.rglob("*.py")
        for line, target in imports(path)
        if target[1] != room(path) and FLOORS[target[1]] >= FLOORS[room(path)]
    ]
    assert not climbs, "\n".join(climbs)


def test_files_stay_readable():
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > (450 if room(path) == "models" else 320)
    }
    assert not long
