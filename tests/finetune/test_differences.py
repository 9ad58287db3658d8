"""What FlagEmbedding is known to do wrong, and this command does not: a test each.

That a run resumes exactly and that its folder is complete is tested in test_command.py, and that
sub-batches bound memory in tests/models/test_invariance.py.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import naive
import numpy as np
import optax
import pytest
from finetuning import rows, translated, write_checkpoint, write_rows
from readback import texts_of

from contrastive.data.tokens import Tokenizer
from contrastive.devices.mesh import make_mesh
from contrastive.errors import DataError
from contrastive.sources._example import text_id
from contrastive.temperature._diagnostics import summarize
from contrastive.training.build import build
from contrastive.training.optimizer import make_optimizer

B, G = 8, 3
FLAGS = [
    *("--train_group_size", G, "--query_max_len", 16, "--passage_max_len", 16, "--dropout", 0),
    *("--lr_scheduler_type", "constant", "--learning_rate", 1e-3, "--max_steps", 3),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


class Seen(NamedTuple):
    """A first batch, its embeddings, and what the run's objective says of them."""

    queries: np.ndarray
    documents: np.ndarray
    losses: np.ndarray
    described: dict[str, Any]
    batch: Any


def first_batch(*flags, model, data, devices=1, size=B):
    """Forward pass of a run's first step, in one program."""
    flags = [*FLAGS, "--per_device_train_batch_size", size // devices, *flags]
    experiment = translated(*flags, model=model, data=data, devices=devices).experiment
    mesh = make_mesh(devices=jax.devices()[:devices])
    run = build(experiment, mesh)
    batch = jax.device_get(run.feed.take(stop=False).batch)
    batch_loss, embedder = run.functions.batch_loss(experiment), run.functions.embedder

    @jax.jit
    def forward(params, batch):
        queries, documents = (
            embedder.embed(params, texts) for texts in (batch.queries, batch.documents)
        )
        scalars = {"temperature": jnp.float32(experiment.loss.temperature)}
        arguments = (queries, documents, scalars, batch_loss.columns(batch), None)
        losses, _ = batch_loss.losses(*arguments)
        return queries, documents, losses, batch_loss.describe(*arguments)

    *found, described = forward(jax.device_get(run.init().params["encoder"]), batch)
    return Seen(*map(np.asarray, found), jax.device_get(summarize(described)), batch)


def same(found, expected, rel=1e-5):
    np.testing.assert_allclose(found, expected, rtol=rel, atol=rel * np.max(np.abs(expected)))


# 1. Across W devices its gradient is 1/W of the batch's, and with kl_div points elsewhere.


def test_the_gradient_across_devices_is_the_whole_batchs(model, tmp_path):
    flags = [
        *(*FLAGS, "--per_device_train_batch_size", B // 4),
        *("--negatives_cross_device", "True", "--knowledge_distillation", "True"),
    ]
    data = write_rows(tmp_path / "rows.jsonl", rows(B, G - 1))
    experiment = translated(*flags, model=model, data=data, devices=4).experiment
    run = build(experiment, make_mesh(devices=jax.devices()[:4]))
    batch, state = run.feed.take(stop=False).batch, run.init()
    params, whole = jax.device_get((state.params["encoder"], batch))

    @jax.jit
    def dense(params):
        embed = run.functions.embedder.embed
        scores = embed(params, whole.queries) @ embed(params, whole.documents).T / 0.02
        scores = scores.reshape(B, B, G)
        own = jax.nn.log_softmax(scores[np.arange(B), np.arange(B)])
        soft = -jnp.sum(jax.nn.softmax(whole.teacher_scores) * own, axis=1)
        hard = jax.nn.logsumexp(scores, axis=(1, 2)) - scores[np.arange(B), np.arange(B), 0]
        return jnp.mean(soft + hard)

    loss, gradient = jax.value_and_grad(dense)(params)
    norm = float(optax.tree.norm(gradient))
    state, metrics = run.train_step(state, batch, np.bool_(False))
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    # The first moments hold the gradient itself.
    optimizer = make_optimizer(experiment.optimizer, experiment.steps)
    before = {"encoder": params, "temperature": run.init().params["temperature"]}
    given = {
        "encoder": gradient,
        "temperature": jax.tree.map(jnp.zeros_like, before["temperature"]),
    }
    _, expected = optimizer.update(given, optimizer.init(before), before)
    leaves = jax.tree.leaves(expected), jax.tree_util.tree_leaves_with_path(state.opt_state)
    for true, (path, moment) in zip(*leaves, strict=True):
        np.testing.assert_allclose(moment, true, atol=1e-5 * 0.1, err_msg=str(path))


def test_devices_and_accumulated_batches_see_no_others_unless_asked_to(model, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(B, G - 1))
    shared = {"model": model, "data": data}
    accumulated = ["--gradient_accumulation_steps", 2]
    for devices, flags, size, shards in (
        (4, [], B, 4),
        (4, ["--negatives_cross_device", "True"], B, 1),
        (2, accumulated, B // 2, 4),
        (2, [*accumulated, "--negatives_cross_device", "True"], B // 2, 2),
    ):
        seen = first_batch(*flags, **shared, devices=devices, size=size)
        queries = np.split(seen.queries, shards)
        documents = np.split(seen.documents, shards)
        pairs = zip(queries, documents, strict=True)
        same(seen.losses, np.concatenate([naive.info_nce(q, d, 0.02, G)[0] for q, d in pairs]))


@pytest.mark.slow
def test_accumulated_batches_take_the_memory_of_one(model, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(256, G - 1))
    mesh = make_mesh(devices=jax.devices()[:1])

    def temporary(*flags):
        run = build(translated(*FLAGS, *flags, model=model, data=data).experiment, mesh)
        batch = run.feed.take(stop=False).batch
        compiled = run.train_step.lower(run.like, batch, np.bool_(False)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    size = "--per_device_train_batch_size"
    at_once = temporary(size, 256)
    accumulated = temporary(size, 32, "--gradient_accumulation_steps", 8)
    assert accumulated < 0.5 * at_once  # embeddings and scores of the whole batch are left


# 2. Under bf16 its scores are bfloat16: logits of up to 50 move in steps of 0.25.


def test_scores_are_float32_under_bf16(model, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(B, G - 1))
    seen = first_batch("--bf16", "True", model=model, data=data)
    assert seen.queries.dtype == seen.documents.dtype == seen.losses.dtype == np.float32
    same(seen.losses, naive.info_nce(seen.queries, seen.documents, 0.02, G)[0])
    logits = seen.queries @ seen.documents.T / 0.02
    rounded = np.asarray(jnp.asarray(logits, jnp.bfloat16), np.float32)
    assert np.all(rounded[rounded > 32] % 0.25 == 0)
    assert np.mean(logits[logits > 32] % 0.25 != 0) > 0.9
    plain = first_batch(model=model, data=data)
    assert not np.array_equal(plain.queries, seen.queries)  # the layers are bfloat16 indeed


# 3. The same passage twice, another known positive, the same query twice: all negatives there.


def test_false_negatives_are_masked_by_text_and_counted(model, tmp_path):
    some = rows(B, G - 1)
    some[1]["pos"] = some[0]["pos"]  # the same passage answers two queries
    some[2]["query"] = some[3]["query"]  # one query in two rows
    some[5]["neg"][0] = some[4]["pos"][0]
    some[4]["pos"].append(some[6]["neg"][0])  # another known positive is a negative elsewhere
    some[4]["pos_scores"].append(0.0)
    data = write_rows(tmp_path / "rows.jsonl", some)
    seen = first_batch("--mask_false_negatives", "True", model=model, data=data)
    batch = seen.batch
    ids = {"query_ids": batch.query_ids, "document_ids": batch.document_ids}
    known = batch.known_positive_ids
    same(seen.losses, naive.info_nce(seen.queries, seen.documents, 0.02, G, **ids, known=known)[0])
    # Two pairs for the passage, two for the query, and two for the positives of the fifth row,
    # whichever of them it drew: both are negatives of other rows.
    expected = (2 + 2 + 2) / (B * (B * G - 1))
    assert seen.described["masked_share"] == pytest.approx(expected, rel=1e-5)

    kept = first_batch(model=model, data=data)
    same(kept.losses, naive.info_nce(kept.queries, kept.documents, 0.02, G)[0])
    assert kept.described["masked_share"] == 0


# 4. An empty `neg` divides by zero, and pairs need a group of one.


def test_rows_with_too_few_negatives_are_refused_by_line_or_have_smaller_groups(model, tmp_path):
    some = rows(B, G - 1)
    for row, left in ((some[2], 0), (some[5], 1)):
        row["neg"], row["neg_scores"] = row["neg"][:left], row["neg_scores"][:left]
    data = write_rows(tmp_path / "rows.jsonl", some)
    with pytest.raises(DataError, match=r"rows\.jsonl:3: a group needs 1 negatives .* has 0"):
        first_batch(model=model, data=data)
    seen = first_batch("--few_negatives", "fewer", model=model, data=data)
    sizes = {text_id(row["query"]): 1 + len(row["neg"]) for row in some}
    groups = [
        seen.documents[i * G : i * G + sizes[int(id)]].astype(np.float64)
        for i, id in enumerate(seen.batch.query_ids)
    ]
    assert sorted(map(len, groups)) == [1, 2, *[3] * (B - 2)]
    ragged = []
    for query, own in zip(seen.queries.astype(np.float64), groups, strict=True):
        logits = np.concatenate([group @ query for group in groups]) / 0.02
        top = logits.max()
        ragged.append(top + np.log(np.exp(logits - top).sum()) - own[0] @ query / 0.02)
    np.testing.assert_allclose(seen.losses, ragged, rtol=1e-5, atol=1e-5)


# 5. `no_in_batch_neg` ends a folder's name, and in some modes that does nothing.


@pytest.mark.parametrize(
    ("flags", "in_batch"),
    [
        ([], True),
        (["--same_dataset_within_batch", "True"], False),
        (["--dataset_rules", "always"], False),
    ],
)
def test_the_suffix_is_honoured_in_every_mode_if_asked_to(model, tmp_path, flags, in_batch):
    folder = tmp_path / "rows-no_in_batch_neg"
    write_rows(folder / "rows.jsonl", rows(B, G - 1))
    seen = first_batch(*flags, model=model, data=f"{folder}/")
    same(seen.losses, naive.info_nce(seen.queries, seen.documents, 0.02, G, in_batch=in_batch)[0])


# 6. A data set smaller than a batch contributes nothing, and rows without a prompt are "None...".


def test_a_data_set_smaller_than_a_batch_is_refused_by_name(model, tmp_path):
    large = write_rows(tmp_path / "rows" / "large.jsonl", rows(2 * B, G - 1))
    write_rows(tmp_path / "rows" / "small.jsonl", rows(B - 1, G - 1, seed=1))
    flags = ["--same_dataset_within_batch", "True"]
    with pytest.raises(DataError, match=r"batch_size is 8 but .*small\.jsonl'\) has 7 examples"):
        first_batch(*flags, model=model, data=large.parent)
    first_batch(model=model, data=large.parent)  # batches of both


@pytest.mark.parametrize("instruction", [None, "bas bat:"])
def test_a_row_without_a_prompt_has_the_instruction_or_nothing(model, tmp_path, instruction):
    some = rows(B, G - 1)
    for number, row in enumerate(some):
        if number % 3:
            row["prompt"] = None if number % 3 == 1 else "kad kas:"
    data = write_rows(tmp_path / "rows.jsonl", some)
    flags = ["--query_instruction_format", "{} : {}", "--dataset_rules", "always"]
    if instruction:
        flags += ["--query_instruction_for_retrieval", instruction]
    experiment = translated(
        *(*FLAGS, "--per_device_train_batch_size", B, *flags), model=model, data=data
    ).experiment
    run = build(experiment, make_mesh(devices=jax.devices()[:1]))
    batch = jax.device_get(run.feed.take(stop=False).batch)
    start = run.functions.start.model
    tokenize = Tokenizer(
        start.tokenizer, special_tokens=start.adds_special_tokens, names=start.names
    )
    expected = set()
    for row in some:
        prompt = row.get("prompt") or instruction
        text = f"{prompt} : {row['query']}" if prompt else row["query"]
        expected.add(tuple(tokenize([text], 16)[0].tolist()))
    assert set(map(tuple, texts_of(batch.queries))) == expected


# 11. The teacher's softmax has no temperature.


@pytest.mark.parametrize(("kind", "ours"), [("kl_div", "kl"), ("m3_kd_loss", "m3")])
def test_the_teacher_has_a_temperature_and_a_weight(model, tmp_path, kind, ours):
    some = rows(B, G - 1)
    data = write_rows(tmp_path / "rows.jsonl", some)
    seen = first_batch(
        *("--knowledge_distillation", "True", "--kd_loss_type", kind),
        *("--teacher_temperature", 3, "--kd_weight", 0.25),
        model=model,
        data=data,
    )
    score = {
        text_id(text): value
        for row in some
        for text, value in zip(
            (*row["pos"], *row["neg"]), (*row["pos_scores"], *row["neg_scores"]), strict=True
        )
    }
    scores = np.array([score[int(id)] for id in seen.batch.document_ids]).reshape(B, G)
    arguments = (seen.queries, seen.documents, scores, 0.02, 3.0)
    if ours == "m3":
        same(seen.losses, 0.25 * naive.distill_m3(*arguments)[0])
    else:
        hard = naive.info_nce(seen.queries, seen.documents, 0.02, G)[0]
        same(seen.losses, hard + 0.25 * naive.distill_kl(*arguments)[0])
