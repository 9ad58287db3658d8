"""The code in a model card, run as it stands in each of the four libraries."""

import dataclasses
import re

import flagembedding_reference as reference
import numpy as np
import pytest

from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load

WORDS = ["a", "question", "an", "answer", "find", "it:", "text:"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards") / "model"
    reference.write_tiny_bert(folder, WORDS)
    return folder


def vectors_of(card, folder):
    """Queries and documents of each block of code, by the library that it imports last."""
    found = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        names = {}
        exec(code.replace("path/to/this/folder", str(folder)), names)
        library = re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)[-1]
        found[library] = [np.asarray(names[name]) for name in ("queries", "documents")]
    return found


@pytest.mark.parametrize("pooling", ["cls", "mean", "last_token"])
@pytest.mark.parametrize("normalize", [True, False])
def test_all_libraries_make_the_same_vectors(checkpoint, tmp_path, pooling, normalize):
    model = dataclasses.replace(
        load(checkpoint),
        pooling=pooling,
        normalize=normalize,
        query_prompt="find it: ",
        document_prompt="text: ",
        query_length=7,
        document_length=9,
    )
    save(tmp_path / "out", model)
    vectors = vectors_of((tmp_path / "out" / "README.md").read_text(), tmp_path / "out")
    flag_embedding = {"FlagEmbedding"} if pooling != "last_token" else set()
    assert set(vectors) == {"contrastive", "sentence_transformers", "transformers"} | flag_embedding
    for library, (queries, documents) in vectors.items():
        ours = vectors["contrastive"]
        np.testing.assert_allclose(queries, ours[0], atol=1e-5, err_msg=library)
        np.testing.assert_allclose(documents, ours[1], atol=1e-5, err_msg=library)
        assert np.abs(queries - documents).max() > 1e-2
