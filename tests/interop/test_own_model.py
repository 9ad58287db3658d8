"""An architecture that no other library knows is saved for this one, which needs its code."""

import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
from folders import TEXTS, changed_by_hand, write_weights
from safetensors.numpy import load_file

import contrastive
from contrastive import config
from contrastive.devices.mesh import make_mesh
from contrastive.encoder import Encoder
from contrastive.errors import ConfigError, FolderError
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.interop.initial_model import initial_model
from contrastive.sources._examples import Examples

DATA = config.Data(
    query_max_length=7,
    document_max_length=11,
    query_prompt="ask: ",
    document_prompt="text: ",
    tokenizer=config.WordPiece(vocab_size=60),
)


class WordEncoder(nn.Module):
    """A vector per token and a dense layer."""

    vocab_size: int
    width: int

    @nn.compact
    def __call__(self, tokens, *, seed=None):
        del seed
        vectors = nn.Embed(self.vocab_size, self.width, name="table")(tokens.ids)
        return nn.Dense(self.width, name="out")(nn.tanh(vectors))


class Words(contrastive.models.Model):
    """A vector per token, and a dense layer."""

    width: int = 6

    poolings = ("mean", "last_token")

    def build(self, vocab_size):
        return WordEncoder(vocab_size, self.width)


class Bare(Words):
    """The same without first and last tokens."""

    adds_special_tokens = False


def started(spec, **options):
    examples = Examples.of([{"query": text, "pos": [text]} for text in TEXTS], "texts")
    settings = {"pooling": None, "normalize": True, **options}
    return initial_model(spec, DATA, examples, **settings)


def made(spec=None, *, pooling="last_token", normalize=True):
    start = started(spec or Words(), pooling=pooling, normalize=normalize)
    params = jax.tree.map(np.asarray, start.init(3))
    return Encoder(start.model, jax.device_put(params), make_mesh(1, jax.devices()[:1]))


@pytest.mark.parametrize("spec", [Words(), Words(width=9), Bare()], ids=repr)
@pytest.mark.parametrize("normalize", [True, False])
def test_it_is_read_back_as_it_was_saved(tmp_path, spec, normalize):
    before = made(spec, normalize=normalize)
    before.save_pretrained(tmp_path / "model")
    after = Encoder.from_pretrained(tmp_path)
    for name in ("encode_queries", "encode_documents"):
        truth = getattr(before, name)(TEXTS)
        np.testing.assert_allclose(getattr(after, name)(TEXTS), truth, atol=1e-6)
        assert truth.std() > 0
    assert repr(after) == repr(before)
    model = load(tmp_path / "model")
    assert model.spec == spec
    assert (model.pooling, model.normalize) == ("last_token", normalize)
    assert (model.query_length, model.document_length) == (7, 11)
    assert (model.query_prompt, model.document_prompt) == ("ask: ", "text: ")
    assert model.adds_special_tokens == (type(spec) is Words)
    save(tmp_path / "again", model)
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {path.name for path in (tmp_path / "again").iterdir()}
    for name in files:
        again = (tmp_path / "again" / name).read_bytes()
        assert again == (tmp_path / "model" / name).read_bytes(), name


def test_its_weights_have_the_names_of_its_own_arrays(tmp_path):
    made().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert {name: x.shape for name, x in weights.items() if "table" not in name} == {
        "out.kernel": (6, 6),
        "out.bias": (6,),
    }
    assert list(weights) == sorted(weights)
    assert len(weights) == 3
    weights["out.kernel"] = weights["out.kernel"][:, :5]
    weights["extra"] = np.zeros(2, np.float32)
    write_weights(tmp_path / "model.safetensors", weights)
    changed_by_hand(tmp_path)
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    for words in (str(tmp_path), "out.kernel", "(6, 5)", "(6, 6)", "extra is unknown"):
        assert words in str(error.value)


IN_ANOTHER_PROCESS = """
import sys
from contrastive.encoder import Encoder
from contrastive.errors import FolderError
try:
    Encoder.from_pretrained(sys.argv[1])
except FolderError as error:
    print(error)
assert "test_own_model" not in sys.modules
"""


def test_its_code_is_not_run_because_a_folder_names_it(tmp_path):
    made().save_pretrained(tmp_path)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path} contains a model of {Words.kind}, which was not imported" in done.stdout
    assert f"Import {__name__} in Python" in done.stdout
    assert "--parts FILE.py" in done.stdout


def test_a_folder_of_an_older_class_is_refused_by_name(tmp_path):
    made().save_pretrained(tmp_path)
    about = changed_by_hand(tmp_path)
    changed_by_hand(tmp_path, model={**about["model"], "depth": 3})
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    assert str(tmp_path / "contrastive.json") in str(error.value)
    assert "depth is not a field" in str(error.value)


def test_it_takes_the_place_of_a_model_of_another_kind_and_the_other_way_round(tmp_path):
    published = made(config.Static(width=4), pooling="mean")
    own = made()
    for encoder in (published, own, published, own):
        encoder.save_pretrained(tmp_path)
        found = Encoder.from_pretrained(tmp_path)
        np.testing.assert_allclose(
            found.encode_queries(TEXTS), encoder.encode_queries(TEXTS), atol=1e-6
        )


def test_it_pools_as_it_can():
    settings = {"name": "t", "model": Words(), "data": DATA}
    config.Experiment(**settings, pooling="last_token")
    with pytest.raises(ConfigError, match="pooling is 'cls', but words pools by mean, last_token"):
        config.Experiment(**settings, pooling="cls")


def test_another_number_of_ids_or_seed_is_another_start():
    first, second = started(Words()), started(Words())
    assert first.fingerprint == second.fingerprint
    same, other = first.init(0), first.init(1)
    assert np.array_equal(same["out"]["kernel"], second.init(0)["out"]["kernel"])
    assert not np.array_equal(same["out"]["kernel"], other["out"]["kernel"])
    assert same["table"]["embedding"].shape == (first.model.config["vocab_size"], 6)
