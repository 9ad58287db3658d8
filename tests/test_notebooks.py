"""Notebooks and their scripts are one; that they run, nbmake says."""

from pathlib import Path

import jupytext
import pytest

PLOTLY = "application/vnd.plotly.v1+json"
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
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in shown
    # An interactive picture is JSON. Static pages show it too, with a program that is not saved.
    pages = ["".join(o["data"]["text/html"]) for o in outputs if "text/html" in o.get("data", {})]
    assert all(len(page) < 1 << 16 for page in pages)
    assert bool(pages) == (PLOTLY in shown)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert pair.stat().st_size < 1 << 19


def test_an_interactive_picture_moves_without_a_kernel():
    notebook = jupytext.read(FOLDER / "02_temperature.ipynb")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    (figure,) = [o["data"][PLOTLY] for o in outputs if PLOTLY in o.get("data", {})]
    (slider,) = figure["layout"]["sliders"]
    before = [trace["y"] for trace in figure["data"]]
    for number, step in enumerate(slider["steps"]):
        heights, _, traces = step["args"]
        same = [before[trace] == y for trace, y in zip(traces, heights["y"], strict=True)]
        assert all(same) if number == slider["active"] else not any(same)
