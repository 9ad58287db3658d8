"""Writes the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from plotly.offline import get_plotlyjs

from contrastive.errors import ConfigError, FolderError
from contrastive.lab.advisor import Finding, advise, in_short
from contrastive.lab.report.block import Block, Picture, Table, longer_down
from contrastive.lab.report.cosines import cosine_blocks, penalty_blocks
from contrastive.lab.report.curves import once_table, planes, raised_in_words, training_blocks
from contrastive.lab.report.reading import Folder, read, shown
from contrastive.lab.report.scores import score_blocks, score_table
from contrastive.lab.report.softmax import left_out, why_no_gradient, why_no_weights
from contrastive.lab.report.study import Study, differences_of, score_columns, studies

_PAGE = "report.html"
_ALIKE = "No picture: settings differ in no number. Sweep one, or give runs that differ in one."
_NO_SCORES = "Nothing has a score yet: scores come at the end, from data.test or data.validation."
_NO_HISTOGRAMS = (
    "There are no histograms: they are taken at the end of a run, and every examine_steps steps."
)
_NO_LOOKS = "Nothing was measured at one step alone."
_NO_PLANES = "Neither uniformity and tolerance nor uniformity and alignment have been logged."


class Section(NamedTuple):
    """A part of the page.

    Attributes:
      title: Its heading.
      blocks: Pictures.
      missing: What is said where there are none.
      table: Before them; where it has no lines, it is left out.
      words: Paragraphs below the heading.
    """

    title: str
    blocks: Sequence[Block]
    missing: str
    table: Table | None = None
    words: Sequence[str] = ()


def write_report(paths: Sequence[Path], output: Path | None = None) -> Path:
    """Makes one page, complete in itself, of runs and sweeps.

    Args:
      paths: Their folders.
      output: The page; report.html in the first folder unless given.

    Returns:
      Where it is.

    Raises:
      ConfigError: If there are no folders.
      FolderError: If one is neither a run's nor a sweep's, or cannot be read.
    """
    if not paths:
        raise ConfigError("contrastive report needs the folder of a run or of a sweep, or several")
    output = output or paths[0] / _PAGE
    output.write_text(html(read(paths)), encoding="utf-8")
    return output


def html(folders: Sequence[Folder]) -> str:
    """The page as text.

    Args:
      folders: What was read.

    Returns:
      HTML with all that it needs inside.
    """
    room = files("contrastive.lab.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((room / "page.html").read_text(encoding="utf-8"))
    found = studies(folders)
    return template.render(
        title=", ".join(dict.fromkeys(folder.config.name for folder in folders)),
        css=(room / "page.css").read_text(encoding="utf-8"),
        js=(room / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        frames=_frames,
        sections=[*_sections(found), _differences(folders)],
        advice=_advice(folders),
        origins=[(_summary(folder), _origin(folder)) for folder in folders],
    )


def _frames(picture: Picture) -> str:
    """The frames of a picture as JSON that no text in it can end."""
    frames = [
        {"words": words, **json.loads(str(figure.to_json()))} for figure, words in picture.frames
    ]
    # Plotly writes null for what is not a number; JSON knows no NaN.
    text = json.dumps(frames, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _sections(found: Sequence[Study]) -> list[Section]:
    columns, once = score_columns(found), once_table(found)
    return [
        Section(
            "Scores", score_blocks(found), _ALIKE if columns else _NO_SCORES, score_table(found)
        ),
        *_of_cosines(found, columns),
        _training(found),
        Section("Closer looks", [], "" if once.lines else _NO_LOOKS, once),
        Section("Uniformity", [Block([picture]) for picture in planes(found)], _NO_PLANES),
    ]


def _of_cosines(found: Sequence[Study], columns: Sequence[str]) -> list[Section]:
    blocks = cosine_blocks(found, next(iter(columns), None))
    weightless = left_out(found, why_no_weights, "The weight of a negative")
    missing = "" if weightless else _NO_HISTOGRAMS
    without = left_out(found, why_no_gradient, "The gradient") if blocks else []
    return [
        Section("Similarities", blocks, _NO_HISTOGRAMS, words=without),
        Section("Penalties", penalty_blocks(found), missing, words=weightless),
    ]


def _training(found: Sequence[Study]) -> Section:
    blocks = training_blocks(found)
    means = "Means over seeds; one that has diverged is left out from then on."
    words = [words for words in (means if blocks else "", raised_in_words(found)) if words]
    return Section("Training", blocks, "Nothing has been logged at several steps.", words=words)


def _differences(folders: Sequence[Folder]) -> Section:
    found = differences_of(folders)
    cells = [[_value(value) for value in values] for values in found.values()]
    labels = [folder.label for folder in folders]
    caption = "Fields in which the folders' configs differ."
    missing = "The configs are the same."
    if len(folders) == 1:
        missing = "One folder was given: there is nothing to compare it with."
    return Section(
        "Differences of the configs",
        [],
        "" if found else missing,
        longer_down(caption, "folder", list(found), labels, cells),
    )


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"swept: {', '.join(map(shown, value))}"
    return "-" if value is None else shown(value)


def _advice(folders: Sequence[Folder]) -> list[tuple[str, list[Finding]]]:
    return [(folder.label, _findings(folder)) for folder in folders]


def _findings(folder: Folder) -> list[Finding]:
    try:
        return advise(folder.path) if folder.axes is None else in_short(folder)
    except FolderError as error:  # nothing was logged yet
        return [Finding("too_early", str(error), "")]


def _summary(folder: Folder) -> str:
    runs = sum(len(setting.runs) for setting in folder.settings)
    kind = "run" if folder.axes is None else f"sweep, {runs} runs"
    return f"{folder.label}: {kind}, {folder.written:%Y-%m-%d %H:%M} UTC"


def _origin(folder: Folder) -> list[tuple[str, str]]:
    """Where a folder's numbers are from, by name."""
    ending = folder.ending
    hardware, versions = ending.get("hardware", {}), ending.get("versions", {})
    task = "{task}: {queries} queries, {documents} documents" if "task" in ending else ""
    swept = [f"{name}: {', '.join(map(shown, v))}" for name, v in (folder.axes or {}).items()]
    facts = {
        "Folder": str(folder.path),
        "Name": folder.config.name,
        "Sweep of": "; ".join(swept),
        "Task": task.format(**ending),
        "Command": ending.get("command", "" if ending else "not finished; written at the end"),
        "Hardware": ", ".join(f"{name} {value}" for name, value in hardware.items()),
        "Versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
    return [(name, value) for name, value in facts.items() if value]
