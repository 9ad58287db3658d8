"""Training steps of the real FlagEmbedding, to compare ours with.

Run as a script, it checks itself on a tiny random BERT against loops in float64:
``python tests/peers/flagembedding_reference.py``.
"""

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from FlagEmbedding.abc.finetune.embedder import AbsEmbedderCollator
from FlagEmbedding.finetune.embedder.encoder_only.base import BiEncoderOnlyEmbedderModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)

# Queries, then passages query-major, the positive first in each group, then a score a passage.
Batch = tuple[list[str], list[str], list[float] | None]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What FlagEmbedding's flags set; the defaults are its own, but for the two lengths.

    Args:
        temperature: Divisor of the scores.
        pooling: ``cls``, ``mean`` or ``last_token``.
        normalize: Whether embeddings are normalised.
        in_batch: Whether other queries' passages are negatives too.
        kd_loss_type: ``kl_div`` or ``m3_kd_loss``, for batches with teacher scores.
        use_mrl: Whether the loss is the mean over ``mrl_dims``.
        mrl_dims: Leading dimensions to train.
        sub_batch_size: Texts a forward pass; None takes all at once.
        query_length: Tokens at which queries are cut.
        passage_length: Tokens at which passages are cut.
        learning_rate: AdamW's, constant.
        max_grad_norm: Norm at which the gradient is clipped; None leaves it.
    """

    temperature: float = 0.02
    pooling: str = "cls"
    normalize: bool = True
    in_batch: bool = True
    kd_loss_type: str = "kl_div"
    use_mrl: bool = False
    mrl_dims: Sequence[int] = ()
    sub_batch_size: int | None = None
    query_length: int = 32
    passage_length: int = 64
    learning_rate: float = 5e-5
    max_grad_norm: float | None = 1.0


def losses_of_steps(
    folder: Path | str, batches: Sequence[Batch], *, steps: int | None = None, **options
) -> list[float]:
    """Return the loss before each optimizer step; see ``losses_and_weights``."""
    return losses_and_weights(folder, batches, steps=steps, **options)[0]


def losses_and_weights(
    folder: Path | str, batches: Sequence[Batch], *, steps: int | None = None, **options
) -> tuple[list[float], dict[str, np.ndarray]]:
    """Train FlagEmbedding's model without dropout, in float32 on the CPU.

    Args:
        folder: A checkpoint with its tokenizer.
        batches: Texts as the model shall read them, instructions included; taken in turn.
        steps: Optimizer steps; one a batch if None.
        **options: Fields of ``Options``.

    Returns:
        The loss before each step, and the weights after the last by the checkpoint's names.
    """
    settings = Options(**options)
    model = load(folder, settings)
    collator = collator_of(model, settings)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0
    )
    taken = itertools.islice(itertools.cycle(batches), len(batches) if steps is None else steps)
    losses = [_step(model, optimizer, collate(collator, batch), settings) for batch in taken]
    return losses, {name: weight.numpy() for name, weight in model.model.state_dict().items()}


def load(folder: Path | str, settings: Options) -> BiEncoderOnlyEmbedderModel:
    """Load a checkpoint as FlagEmbedding's runner does, every dropout set to zero."""
    config = AutoConfig.from_pretrained(str(folder))
    for name, value in vars(config).items():
        if "dropout" in name and isinstance(value, int | float):
            setattr(config, name, 0.0)
    # Its runner leaves the dtype out, so that since transformers 5 the checkpoint's own is taken.
    base = AutoModel.from_pretrained(str(folder), config=config, dtype=torch.float32)
    return BiEncoderOnlyEmbedderModel(
        base,
        tokenizer=AutoTokenizer.from_pretrained(str(folder)),
        temperature=settings.temperature,
        sub_batch_size=settings.sub_batch_size,
        kd_loss_type=settings.kd_loss_type,
        use_mrl=settings.use_mrl,
        mrl_dims=list(settings.mrl_dims),
        sentence_pooling_method=settings.pooling,
        normalize_embeddings=settings.normalize,
    ).train()


def collator_of(model: BiEncoderOnlyEmbedderModel, settings: Options) -> AbsEmbedderCollator:
    """Return the collator that FlagEmbedding's runner makes."""
    return AbsEmbedderCollator(
        tokenizer=model.tokenizer,
        query_max_len=settings.query_length,
        passage_max_len=settings.passage_length,
        sub_batch_size=settings.sub_batch_size,
        padding=True,
        return_tensors="pt",
    )


def collate(collator: AbsEmbedderCollator, batch: Batch) -> dict:
    """Group a batch's passages by query and give them to the collator."""
    queries, passages, scores = batch
    size, rest = divmod(len(passages), len(queries))
    if rest:
        raise ValueError(f"{len(passages)} passages are no whole groups of {len(queries)} queries")
    groups = [slice(i * size, (i + 1) * size) for i in range(len(queries))]
    return collator(
        [
            (query, passages[group], None if scores is None else scores[group])
            for query, group in zip(queries, groups, strict=True)
        ]
    )


def _step(model, optimizer, inputs: dict, settings: Options) -> float:
    loss = model(**{**inputs, "no_in_batch_neg_flag": not settings.in_batch}).loss
    loss.backward()
    if settings.max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def write_tiny_bert(
    folder: Path | str,
    words: Sequence[str],
    *,
    width: int = 32,
    depth: int = 2,
    seed: int = 0,
    length: int = 64,
):
    """Write a small random BERT whose tokenizer knows the words and splits at spaces."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=length,
    ).save_pretrained(str(folder))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=length,
        # At BERT's own 0.02 all texts would have nearly the same embedding.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(str(folder))


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())


def _loss_by_hand(queries: np.ndarray, passages: np.ndarray, batch: Batch, o: Options) -> float:
    """Return the loss of embeddings that are not normalised, row by row."""
    if o.use_mrl:
        plain = {**vars(o), "use_mrl": False}
        sliced = [(queries[:, :d], passages[:, :d]) for d in o.mrl_dims]
        return float(np.mean([_loss_by_hand(q, p, batch, Options(**plain)) for q, p in sliced]))
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    passages = passages / np.linalg.norm(passages, axis=1, keepdims=True)
    size, losses = len(passages) // len(queries), []
    for i, scores in enumerate(queries @ passages.T / o.temperature):
        own = list(range(i * size, (i + 1) * size))
        columns = list(range(len(passages))) if o.in_batch else own
        hard = -_log_softmax(scores[columns])[columns.index(own[0])]
        if batch[2] is None:
            losses.append(hard)
            continue
        teacher = np.exp(_log_softmax(np.asarray(batch[2])[own]))
        if o.kd_loss_type == "kl_div":
            losses.append(hard - teacher @ _log_softmax(scores[own]))
            continue
        left = [[c for c in columns if c not in own[:g]] for g in range(size)]
        terms = [-_log_softmax(scores[c])[c.index(own[g])] for g, c in enumerate(left)]
        losses.append(teacher @ terms)
    return float(np.mean(losses))


def _embeddings(folder: Path, batch: Batch, o: Options) -> list[np.ndarray]:
    """Return the embeddings of queries and passages before training, in float64."""
    plain = Options(pooling=o.pooling, normalize=False, passage_length=o.passage_length)
    model = load(folder, plain)
    inputs = collate(collator_of(model, plain), batch)
    with torch.no_grad():
        return [model.encode(inputs[side]).double().numpy() for side in ("queries", "passages")]


def _batches(words: Sequence[str], *, queries: int = 3, size: int = 3) -> list[Batch]:
    rng = np.random.default_rng(0)

    def texts(n: int) -> list[str]:
        return [" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(n)]

    scores = rng.normal(size=queries * size)
    return [(texts(queries), texts(queries * size), scores.tolist()) for _ in range(2)]


def _check() -> None:
    words = [a + b for a in ("ka", "lo", "mi", "fu", "re") for b in ("ba", "de", "fi", "gu")]
    cases = {
        "plain": {},
        "mean": {"pooling": "mean", "temperature": 0.1},
        "last_token": {"pooling": "last_token"},
        "no in-batch negatives": {"in_batch": False},
        "matryoshka": {"use_mrl": True, "mrl_dims": (32, 16, 8)},
        "kl_div": {"kd": True},
        "kl_div, no in-batch negatives": {"kd": True, "in_batch": False},
        "kl_div, matryoshka": {"kd": True, "use_mrl": True, "mrl_dims": (16, 8)},
        "m3_kd_loss": {"kd": True, "kd_loss_type": "m3_kd_loss"},
        "sub-batches": {"sub_batch_size": 2},
        "cut, not clipped": {"passage_length": 5, "max_grad_norm": None},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_bert(folder, words)
        for case, options in cases.items():
            _check_case(folder, _batches(words), case, **options)


def _check_case(folder: Path, batches: list[Batch], case: str, *, kd: bool = False, **options):
    if not kd:
        batches = [(queries, passages, None) for queries, passages, _ in batches]
    options = {"learning_rate": 1e-3, **options}
    o = Options(**options)
    losses, weights = losses_and_weights(folder, batches, steps=20, **options)
    by_hand = _loss_by_hand(*_embeddings(folder, batches[0], o), batches[0], o)
    np.testing.assert_allclose(losses[0], by_hand, rtol=2e-5, err_msg=case)
    assert losses == losses_of_steps(folder, batches, steps=20, **options), case
    if not kd:  # random teachers contradict the hard labels, so that little is left to learn
        assert np.mean(losses[-4:]) < np.mean(losses[:4]), f"{case}: {losses}"
    assert all(np.isfinite(weight).all() for weight in weights.values()), case
    print(f"{case}: {losses[0]:.5f} (by hand {by_hand:.5f}), after 20 steps {losses[-1]:.5f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    _check()
