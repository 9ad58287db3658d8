"""Notebooks and their scripts are one; that they run, nbmake says."""

from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def test_every_notebook_has_a_script():
    assert SCRIPTS
    assert [p.with_suffix(".py") for p in sorted(FOLDER.glob("*.ipynb"))] == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script_with_pictures(script):
    pair = script.with_suffix(".ipynb")
    written, executed = (jupytext.read(path) for path in (script, pair))
    for a, b in zip(written.cells, executed.cells, strict=True):
        assert (a.cell_type, a.source) == (b.cell_type, b.source)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert pair.stat().st_size < 1 << 20
