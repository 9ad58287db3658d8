"""Errors that users can fix; the command line prints them without a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

__all__ = [
    "ConfigError",
    "DataError",
    "DivergedError",
    "FolderError",
    "SaveError",
    "UserError",
]

Naming: TypeAlias = Callable[[str], str]
"""Maps a config field, such as `loss.temperature`, to its name in a command, such as a flag."""


ITSELF = "."
"""The field of an error about the value that is being validated, whatever field it belongs to."""


class UserError(Exception):
    """An error whose message names the value, the limit and the way out.

    Args:
      message: What is wrong. If there is a field, the message continues after its name, as in
        "is 0, ...". A message that names other fields is a function from a `Naming` to the text.
      field: The config field with the error, such as `loss.temperature`, or `ITSELF`.
      see: Other fields that can be changed to fix the error.
    """

    def __init__(
        self, message: str | Callable[[Naming], str], *, field: str = "", see: Sequence[str] = ()
    ):
        self.message = message
        self.field = field
        self.see = tuple(see)
        super().__init__(self.worded(str))

    def worded(self, name: Naming) -> str:
        """Returns the message, with fields named as in a command.

        Args:
          name: Maps a field to its name, such as a flag.

        Returns:
          The message.
        """
        message = self.message if isinstance(self.message, str) else self.message(name)
        subject = "the value" if self.field == ITSELF else self.field and name(self.field)
        text = f"{subject} {message}" if subject else message
        return f"{text} (see {', '.join(map(name, self.see))})" if self.see else text


class ConfigError(UserError, ValueError):
    """Settings that are invalid or incompatible."""


class DataError(UserError, ValueError):
    """Data that cannot be used; the message says where it is."""


class FolderError(UserError, ValueError):
    """A folder that is not a valid folder of a run, a sweep or a model."""


class SaveError(UserError, RuntimeError):
    """A checkpoint that could not be written; earlier checkpoints are intact."""


class DivergedError(UserError, RuntimeError):
    """A loss, gradient or update that was not finite. The update was not applied."""


@contextlib.contextmanager
def fields_named(name: Naming) -> Iterator[None]:
    """Context whose errors name fields as a command does.

    Args:
      name: Maps a field to its name, such as a flag.

    Raises:
      UserError: The error of the block, of the same type.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(error.worded(name)) from error


def __dir__() -> list[str]:
    return __all__
