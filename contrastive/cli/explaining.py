"""Commands that explain: advise, report and reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from contrastive.cli.models import check_output
from contrastive.cli.stopping import stoppable


def advise(workdir: tyro.conf.Positional[Path], /) -> None:
    """Diagnose the temperature of a run and suggest what to change: contrastive advise DIR.

    Reads the metrics of a run that is finished, in progress or diverged, and says whether the
    temperature is too low or too high, or whether the cause is the learning rate, duplicates among
    the negatives, or embeddings that are not normalized. For a sweep, it reports what most seeds
    of each setting show, and which setting scores best.

    Args:
      workdir: Folder of `contrastive train`, `contrastive sweep` or `contrastive finetune`.
    """
    from contrastive.advice.advisor import advise as find
    from contrastive.interop.run_model import run_folder

    for finding in find(run_folder(workdir)):
        print(f"{finding.cause}: {finding.seen}\n    {finding.advice}")


def report(
    folders: tyro.conf.Positional[tuple[Path, ...]], /, *, output: Path | None = None
) -> None:
    """Make an HTML report of runs and sweeps: contrastive report DIR [DIR ...].

    The page shows scores against temperature, histograms of cosines with a slider, penalties,
    training curves, uniformity and tolerance, config differences and advice. It works offline.

    Args:
      folders: Folders of `contrastive train`, `contrastive sweep` or `contrastive finetune`.
      output: The page to write; report.html in the first folder by default.
    """
    from contrastive.interop.run_model import run_folder
    from contrastive.lazy import optional

    if output is not None:
        check_output(output)
    write_report = optional("contrastive.reports.page", "report").write_report
    print(f"report: {write_report(list(map(run_folder, folders)), output)}")


def reproduce(
    name: tyro.conf.Positional[str],
    /,
    *,
    workdir: Path | None = None,
    setting: Literal["small", "full"] = "small",
    data: Path | None = None,
) -> None:
    """Reproduce a paper's result: contrastive reproduce T1.

    Runs the experiment, draws the paper's figure beside ours, and reports which claims held.
    Finished runs are not repeated; a reproduction that is stopped exits with status 75.

    Args:
      name: Name of a paper, such as T1, or a file that defines a Paper; the names are listed in
        experiments/papers/README.md.
      workdir: Folder for the runs, results.json and figure.png; runs/papers/NAME-SETTING by
        default.
      setting: small takes minutes on two cores; full is the paper's setting and needs a pod.
      data: Folder of the data sets; CONTRASTIVE_DATA by default. experiments/papers/README.md
        describes its contents.

    Raises:
      ConfigError: If there is no such paper, or its file fails.
    """
    with stoppable():
        from contrastive.papers.paper import Where, data_folder, open_paper
        from contrastive.papers.paper import reproduce as run

        paper = open_paper(name)
        folder = workdir or Path("runs") / "papers" / f"{paper.name}-{setting}"
        where = Where(data_folder(data) if paper.needs_data else Path(), folder)
        results = run(paper, setting, where)
        _show(results, folder)


def _show(results: dict[str, Any], folder: Path) -> None:
    from contrastive.papers.claims import Verdict

    print(f"\n{results['paper']}. {results['title']} ({results['source']})\n")
    for claim in results["claims"]:
        words = Verdict(claim["outcome"], claim["because"], claim["at"]).words
        print(f"{words.upper() if words == 'failed' else words}: {claim['claim']}")
        print(f"  {claim['because']}")
    if results["differs"]:
        print(f"\nunlike the paper: {results['differs']}")
    print(f"\nresults: {folder / 'results.json'}   picture: {folder / 'figure.png'}")
