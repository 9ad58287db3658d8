"""An encoder of texts whose vectors are given, and files of rows."""

import dataclasses
import gzip
import json

import numpy as np


@dataclasses.dataclass
class Fake:
    """Looks vectors up by the text as it is encoded, its prompt included."""

    vectors: dict
    query_prompt: str = ""
    document_prompt: str = ""
    query_length: int = 8
    document_length: int = 16
    seen: list = dataclasses.field(default_factory=list)

    def encode(self, texts, *, prompt="", max_length=None, label="texts"):
        texts = [prompt + text for text in texts]
        self.seen += [(label, text, max_length) for text in texts]
        return np.array([self.vectors[text] for text in texts], np.float32)

    def encode_documents(self, texts):
        return self.encode(texts, prompt=self.document_prompt, label="documents")


def by_angle(angles):
    """Vectors of any length in two dimensions, by text, from angles in degrees."""
    rng = np.random.default_rng(len(angles))
    radians = {text: np.deg2rad(angle) for text, angle in angles.items()}
    lengths = dict(zip(radians, rng.uniform(0.5, 2.0, len(radians)), strict=True))
    return {
        text: lengths[text] * np.array([np.cos(angle), np.sin(angle)])
        for text, angle in radians.items()
    }


def written(path, rows):
    """A file of rows, packed if its name says so."""
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)
