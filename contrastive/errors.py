"""What the person at the terminal can mend."""

from __future__ import annotations


class UserError(Exception):
    """Its message names the value, the limit and the way out, and is shown without a traceback."""


class ConfigError(UserError, ValueError):
    """Settings that do not go together, found where they meet."""


class DataError(UserError, ValueError):
    """Data that cannot be used as it is; the message says where."""


class FolderError(UserError, ValueError):
    """A folder that is not what it should be: a run's, or a model's."""


class SaveError(UserError, RuntimeError):
    """A checkpoint that could not be written; those before it are whole."""


class DivergedError(UserError, RuntimeError):
    """A loss, gradient or update that is not finite. The update was not applied."""
