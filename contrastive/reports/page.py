"""Writes a report as an HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from plotly.offline import get_plotlyjs

from contrastive.errors import ConfigError
from contrastive.folders.reading import Folder, read, shown
from contrastive.reports.answer import answers
from contrastive.reports.block import Block, Figure, Table, tall_table
from contrastive.reports.cosines import cosine_blocks, penalty_blocks
from contrastive.reports.curves import once_table, planes, raised_in_words, training_blocks
from contrastive.reports.examples import retrieved
from contrastive.reports.score_figures import score_blocks
from contrastive.reports.scores import detail_tables, different_data, score_table
from contrastive.reports.softmax import left_out, why_no_gradient, why_no_weights
from contrastive.reports.study import Study, differences_of, score_columns, studies
from contrastive.training.objective import Objective

_PAGE = "report.html"
_ONE_SETTING = "There is no figure because there is only one setting. Sweep a number, or add runs."
_NO_SCORES = "Nothing has a score yet: evaluators compute scores at the end of training."
_NO_HISTOGRAMS = (
    "There are no histograms yet: they are written at the end of a run and every detail_steps "
    "steps."
)
_NO_SINGLE_MEASUREMENTS = "No metric was measured at only one step."
_NO_PLANES = "Neither uniformity and tolerance nor uniformity and alignment have been logged."


class Section(NamedTuple):
    """A section of the page.

    Attributes:
      title: The heading.
      blocks: Blocks of figures.
      missing: Text that is shown if there are no blocks.
      table: A table before the blocks; it is omitted if it has no rows.
      words: Paragraphs below the heading.
      more: Tables after the blocks, which are folded away.
    """

    title: str
    blocks: Sequence[Block]
    missing: str
    table: Table | None = None
    words: Sequence[str] = ()
    more: Sequence[Table] = ()


def write_report(paths: Sequence[Path], output: Path | None = None) -> Path:
    """Writes a self-contained HTML page about runs and sweeps.

    Args:
      paths: The folders of the runs and sweeps.
      output: The file to write; by default, report.html in the first folder.

    Returns:
      The path of the page.

    Raises:
      ConfigError: If there are no folders.
      FolderError: If a folder is neither a run nor a sweep, or cannot be read.
    """
    if not paths:
        raise ConfigError("contrastive report needs at least one folder of a run or of a sweep")
    output = output or paths[0] / _PAGE
    output.write_text(html(read(paths)), encoding="utf-8")
    return output


def html(folders: Sequence[Folder]) -> str:
    """Returns the page as self-contained HTML.

    Args:
      folders: The folders of runs and sweeps that were read.

    Returns:
      The HTML, with all scripts and styles inline.
    """
    room = files("contrastive.reports")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((room / "page.html").read_text(encoding="utf-8"))
    compared = studies(folders)
    return template.render(
        title=", ".join(dict.fromkeys(folder.config.name for folder in folders)),
        css=(room / "page.css").read_text(encoding="utf-8"),
        js=(room / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
        frames=_frames,
        answers=answers(folders, compared),
        sections=[*_sections(compared, different_data(folders)), _differences(folders)],
        examples=retrieved(compared),
        origins=[(_summary(folder), _origin(folder)) for folder in folders],
    )


def _frames(figure: Figure) -> str:
    """Returns the frames of a figure as JSON that is safe inside a script element."""
    frames = [
        {"words": frame.words, **json.loads(str(frame.figure.to_json()))} for frame in figure.frames
    ]
    # Plotly writes NaN as null, because JSON has no NaN.
    text = json.dumps(frames, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _sections(compared: Sequence[Study], warnings: Sequence[str]) -> list[Section]:
    columns, once = score_columns(compared), once_table(compared)
    missing = _ONE_SETTING if columns else _NO_SCORES
    scores = score_table(compared) if columns else None
    details = detail_tables(compared)
    return [
        Section("Scores", score_blocks(compared), missing, scores, warnings, details),
        *_of_cosines(compared),
        _training(compared),
        Section("Detailed metrics", [], "" if once.rows else _NO_SINGLE_MEASUREMENTS, once),
        Section("Uniformity", [Block([figure]) for figure in planes(compared)], _NO_PLANES),
    ]


def _of_cosines(compared: Sequence[Study]) -> list[Section]:
    blocks = cosine_blocks(compared)
    weightless = left_out(compared, why_no_weights, "The weight of a negative")
    missing = "" if weightless else _NO_HISTOGRAMS
    without = left_out(compared, why_no_gradient, "The gradient") if blocks else []
    return [
        Section("Similarities", blocks, _NO_HISTOGRAMS, words=without),
        Section("Penalties", penalty_blocks(compared), missing, words=weightless),
    ]


def _training(compared: Sequence[Study]) -> Section:
    blocks = training_blocks(compared)
    means = "Means over seeds; runs that diverge are left out from that step on."
    words = [words for words in (means if blocks else "", raised_in_words(compared)) if words]
    return Section("Training", blocks, "Nothing has been logged at several steps.", words=words)


def _differences(folders: Sequence[Folder]) -> Section:
    by_field = differences_of(folders)
    cells = [[_value(value) for value in values] for values in by_field.values()]
    labels = [folder.label for folder in folders]
    caption = "Fields in which the configs of the folders differ."
    missing = "The configs are the same."
    if len(folders) == 1:
        missing = "There is only one folder, so there is nothing to compare it with."
    return Section(
        "Config differences",
        [],
        "" if by_field else missing,
        tall_table(caption, "folder", list(by_field), labels, cells),
    )


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"swept: {', '.join(map(shown, value))}"
    return "-" if value is None else shown(value)


def _summary(folder: Folder) -> str:
    runs = sum(len(setting.runs) for setting in folder.settings)
    kind = "run" if folder.axes is None else f"sweep, {runs} runs"
    return f"{folder.label}: {kind}, {folder.written:%Y-%m-%d %H:%M} UTC"


def _origin(folder: Folder) -> list[tuple[str, str]]:
    """Returns the facts about how the results of a folder were produced, as (name, value)."""
    ending = folder.ending
    hardware, versions = ending.get("hardware", {}), ending.get("versions", {})
    counts = {name: _counts(folder, name, x) for name, x in ending.get("evaluators", {}).items()}
    tasks = [
        f"{name}: {', '.join(f'{x:,} {n}' for n, x in of.items())}" for name, of in counts.items()
    ]
    swept = [f"{name}: {', '.join(map(shown, v))}" for name, v in (folder.axes or {}).items()]
    facts = {
        "Folder": str(folder.path),
        "Name": folder.config.name,
        "Loss": _objective(folder.config.loss),
        "Swept fields": "; ".join(swept),
        f"Tasks ({folder.split})": "; ".join(tasks),
        "Command": ending.get("command", "" if ending else "not finished; written at the end"),
        "Hardware": ", ".join(f"{name} {value}" for name, value in hardware.items()),
        "Versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
    return [(name, value) for name, value in facts.items() if value]


def _objective(objective: Objective) -> str:
    """Returns the loss with its settings, the temperature and its policy."""
    loss, policy = objective.function, objective.policy
    settings = ", ".join(f"{name} {value!r:.60}" for name, value in loss if name != "terms")
    words = f"{loss.short_name()} ({settings})" if settings else loss.short_name()
    return f"{words}, temperature {objective.temperature:g}, policy {policy.short_name()}"


def _counts(folder: Folder, name: str, about: Mapping[str, Any]) -> dict[str, int]:
    """Returns the numbers of texts in the description of an evaluator, without its settings."""
    evaluators = folder.config.final_evaluators or folder.config.evaluators
    settings = dict(evaluators[name]) if name in evaluators else {}
    counts = {key: x for key, x in about.items() if isinstance(x, int) and not isinstance(x, bool)}
    return {key: x for key, x in counts.items() if settings.get(key) != x}
