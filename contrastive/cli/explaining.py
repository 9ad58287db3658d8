"""Commands that explain: advise, report and reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from contrastive.cli.stopping import stoppable


def advise(workdir: tyro.conf.Positional[Path], /) -> None:
    """Say what a run shows about its temperature, and what to change: contrastive advise DIR.

    Looks at the metrics of a run that is finished, at work or diverged, and tells too low from too
    high, and both from a learning rate, copies among negatives, and embeddings of any length. Of a
    sweep it says so of each setting, by what most seeds show, and which setting scores best.

    Args:
      workdir: Of `contrastive train`, `contrastive sweep`, or `training` in that of `finetune`.
    """
    from contrastive.lab.advisor import advise as found

    for finding in found(workdir):
        print(f"{finding.cause}: {finding.seen}\n    {finding.advice}")


def report(
    folders: tyro.conf.Positional[tuple[Path, ...]], /, *, output: Path | None = None
) -> None:
    """Make one HTML page of runs and sweeps: contrastive report DIR [DIR ...].

    Scores against temperature, histograms of cosines under a slider, penalties, training curves,
    uniformity and tolerance, differences of configs and advice. The page needs no network.

    Args:
      folders: Of `contrastive train`, `contrastive sweep`, or `training` in that of `finetune`.
      output: The page; report.html in the first folder unless given.
    """
    from contrastive.lab.report.page import write_report

    print(f"report: {write_report(folders, output)}")


def reproduce(
    name: tyro.conf.Positional[str],
    /,
    *,
    workdir: Path | None = None,
    setting: Literal["small", "full"] = "small",
    data: Path | None = None,
) -> None:
    """Reproduce a paper's result: contrastive reproduce T1.

    Runs its experiment, draws the paper's figure beside ours, and says which claims held. What was
    run before is not run again.

    Args:
      name: T1 to T8, or a file that defines a Paper. T1 SimCSE's temperatures; T2 uniformity and
        tolerance; T3 normalisation; T4 the modality gap; T5 batches and decoupling; T6 false
        negatives; T7 who sets the temperature; T8 memory and exactness.
      workdir: Folder of its runs, results.json and figure.png; runs/papers/NAME unless given.
      setting: small takes minutes on two cores, full is the paper's and for a pod.
      data: Folder of the data sets, CONTRASTIVE_DATA unless given; experiments/papers/README.md
        says what is in it.
    """
    with stoppable():
        from contrastive.lab.paper import Where, data_folder, open_paper
        from contrastive.lab.paper import reproduce as run

        paper = open_paper(name)
        folder = workdir or Path("runs") / "papers" / f"{paper.name}-{setting}"
        where = Where(data_folder(data) if paper.needs_data else Path(), folder)
        results = run(paper, setting, where)
        _show(results, folder)


def _show(results: dict[str, Any], folder: Path) -> None:
    print(f"\n{results['paper']}. {results['title']} ({results['source']})\n")
    for claim in results["claims"]:
        print(f"{'held  ' if claim['held'] else 'FAILED'}  {claim['claim']}")
        print(f"        {claim['because']}")
    if results["differs"]:
        print(f"\nunlike the paper: {results['differs']}")
    print(f"\nresults: {folder / 'results.json'}   picture: {folder / 'figure.png'}")
