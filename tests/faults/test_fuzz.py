"""Files with random changes are read, or refused with a sentence; never a traceback or a hang."""

import json
import random
import resource
import shutil
import traceback

import jax
import numpy as np
import pytest
from faults import files, limited, mutate, seeds

import contrastive
from contrastive import tasks
from contrastive.config import Data, Jsonl, Static, Transformer
from contrastive.errors import UserError
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.interop.initial_model import initial_model
from contrastive.sources import _jsonl
from contrastive.sources._examples import Examples
from contrastive.sources._tsv import Tsv
from contrastive.training.metrics_file import METRICS, JsonLines, read_metrics
from contrastive.training.workdir import claimed, load_config

TEXTS = ("one two", "three", "four five six")


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_training(folder):
    row = {"query": "a", "pos": ["b"], "neg": ["c", "d"], "pos_scores": [2.0], "neg_scores": [1, 0]}
    more = {**row, "prompt": "ask: ", "type": "symmetric_sts", "label": 3}
    lines(folder / "rows.jsonl", [row, more, {"query": "e", "pos": ["f", "g"]}])


def read_training(folder):
    _jsonl._open_file.cache_clear()
    examples = _jsonl.open_file(folder / "rows.jsonl")
    return [examples[number] for number in range(len(examples))]


def write_tsv(folder):
    (folder / "rows.tsv").write_text("a question\tan answer\tanother\nb\tc\td\n")


def read_tsv(folder):
    examples = Tsv(path=str(folder / "rows.tsv")).read()
    return [examples[number] for number in range(len(examples))]


def write_beir(folder):
    lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": x} for n, x in enumerate(TEXTS)])
    documents = [{"_id": f"d{n}", "title": "t", "text": x} for n, x in enumerate(TEXTS)]
    lines(folder / "corpus.jsonl", documents)
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq0\td0\t1\nq1\td1\t2\nq2\td2\t1\n"
    )


def read_beir(folder):
    return tasks.Retrieval(str(folder)).load()


def write_flagembedding(folder):
    lines(folder / "test_queries.jsonl", [{"id": n, "text": x} for n, x in enumerate(TEXTS)])
    lines(folder / "corpus.jsonl", [{"id": n, "text": x} for n, x in enumerate(TEXTS)])
    judgments = [{"qid": n, "docid": n, "relevance": 1} for n in range(3)]
    lines(folder / "test_qrels.jsonl", judgments)


def write_tasks(folder):
    pairs = {"sentence1": "a", "sentence2": "b"}
    lines(folder / "sts.jsonl", [{**pairs, "score": 1.5}, {**pairs, "score": 2}])
    lines(folder / "pairs.jsonl", [{**pairs, "label": 1}, {**pairs, "label": 0}])
    lines(folder / "labels.jsonl", [{"text": x, "label": n % 2} for n, x in enumerate(TEXTS)])


def read_tasks(folder):
    labels = str(folder / "labels.jsonl")
    for task in (
        tasks.STS(str(folder / "sts.jsonl")),
        tasks.PairClassification(str(folder / "pairs.jsonl")),
        tasks.Classification(train=labels, test=labels),
        tasks.Clustering(labels),
    ):
        task.load()


def write_model(folder, spec):
    rows = Examples.of([{"query": x, "pos": [x]} for x in TEXTS], "rows")
    start = initial_model(spec, Data(), rows, pooling=None, normalize=True)
    fields = {**vars(start.model), "params": jax.tree.map(np.asarray, start.init(0))}
    save(folder, type(start.model)(**fields))
    # As a folder of another library, whose files have no digests.
    ours = json.loads((folder / "contrastive.json").read_text())
    kept = {name: x for name, x in ours.items() if name not in ("files", "digest")}
    (folder / "contrastive.json").write_text(json.dumps(kept))


def write_transformer(folder):
    write_model(folder, Transformer(width=8, depth=2, heads=2, mlp_width=8))


def write_static(folder):
    write_model(folder, Static(width=8))


def read_model(folder):
    model = load(folder)
    assert 0 < model.query_length <= 2**20
    assert 0 < model.document_length <= 2**20
    for leaf in jax.tree.leaves(model.params):
        assert np.isfinite(leaf).all()


CONFIG = contrastive.config.Experiment(name="fuzzed", data=Data(train=Jsonl(path="rows.jsonl")))


def write_run(folder):
    with claimed(folder, CONFIG, {"data.train": "1", "model": "2"}):
        log = JsonLines(folder / METRICS, 0)
        for step in range(1, 9):
            log.write(step, {"loss": 1.0 / step, "temperature": 0.05})
        log.close()
    (folder / ".lock").unlink(missing_ok=True)


def read_run(folder):
    load_config(folder)
    rows = read_metrics(folder / METRICS)
    assert all(isinstance(row["step"], int) for row in rows)
    with claimed(folder, CONFIG, {"data.train": "1", "model": "2"}):
        JsonLines(folder / METRICS, 4).close()


READERS = {
    "training rows": (write_training, read_training),
    "tab-separated rows": (write_tsv, read_tsv),
    "BEIR": (write_beir, read_beir),
    "FlagEmbedding": (write_flagembedding, read_beir),
    "tasks": (write_tasks, read_tasks),
    "transformer": (write_transformer, read_model),
    "static model": (write_static, read_model),
    "run": (write_run, read_run),
}
# Seeds that found something.
KEPT = {"static model": (247, 559, 753, 775)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folders that can be read, by reader."""
    folders = {}
    for name, (write, read) in READERS.items():
        folders[name] = tmp_path_factory.mktemp("written")
        write(folders[name])
        read(shutil.copytree(folders[name], tmp_path_factory.mktemp("copied") / "folder"))
    return folders


def problem(read, folder):
    """What went wrong with a changed file; None if it was read or refused with a sentence."""
    try:
        with limited():
            read(folder)
    except UserError as error:
        return None if str(error).strip() else "an error without a message"
    except BaseException as error:  # also those of Rust
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{traceback.format_exception(error)[-2]}{error!r:.300}"
    return None


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(written, tmp_path, name):
    _, read = READERS[name]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problems = []
    for seed in (*KEPT.get(name, ()), *seeds(25)):
        chance = random.Random(f"{name} {seed}")
        folder = shutil.copytree(written[name], tmp_path / str(seed))
        where = mutate(chance.choice(files(folder)), chance)
        if wrong := problem(read, folder):
            problems.append(f"seed {seed}, {where}:\n{wrong}")
        shutil.rmtree(folder)
    assert not problems, "\n\n".join(problems)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**20, "1 GB"
