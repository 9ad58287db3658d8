"""(docstring, code) pairs from the installed Python packages, which need no download."""

from __future__ import annotations

from typing import Literal

from contrastive.sources._example import Example
from contrastive.sources._examples import Examples, describe, table_of
from contrastive.sources._source import Source

__all__ = ["Pydoc"]


class Pydoc(Source):
    """(docstring, code) pairs from the installed Python packages; needs no download."""

    split: Literal["train", "validation", "test"] = "train"
    """Which split to read; files are divided 85:5:10 by a digest of their names."""

    def read(self) -> Examples:
        from contrastive.sources.pydoc.dataset import digest, installed_packages, prepare

        builder = prepare()
        data = builder.as_data_source(split=self.split)  # pyright: ignore[reportCallIssue]
        decoded: dict[int, Example] = {}  # decoding a record costs more than tokenizing it

        def read(index: int) -> Example:
            if index not in decoded:
                row = data[index]
                decoded[index] = Example(row["query"].decode(), (row["code"].decode(),))
            return decoded[index]

        return Examples(
            read,
            table_of([describe(Example("", ("",)), {})] * len(data)),
            fingerprint=f"{digest(repr(installed_packages()))} {builder.version} {self.split}",
            name=f"pydoc {self.split}",
            where=lambda index: f"pydoc {self.split}, example {index}",
        )
