"""Names on the Hugging Face Hub to folders."""

from __future__ import annotations

from pathlib import Path

from contrastive.errors import FolderError
from contrastive.interop.weights import PICKLES, is_pickle

# No pickles, and not the copies for other runtimes that live in folders of their own.
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")
_UNWANTED = ("onnx/*", "openvino/*", "coreml/*", "gguf/*")


def local_folder(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> Path:
    """A folder as it is, or the snapshot of a name on the Hub, downloaded once.

    Args:
      name: A folder, or `owner/name`.
      revision: Branch, tag or commit on the Hub.
      cache_dir: Where downloads are kept; the Hub's own cache unless given.

    Returns:
      The folder.

    Raises:
      FolderError: If it is neither a folder here nor found on the Hub, or its weights are a pickle.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_UNWANTED),
        )
    except Exception as error:  # network, permissions, names: many kinds
        reason = str(error).strip().split("\n")[0]
        raise FolderError(
            f"{name!r} is not a folder here, and the Hub does not give it: {reason}"
        ) from None
    if not any(Path(found).rglob("*.safetensors")):
        _refuse_pickle(name, revision)
    return Path(found)


def _refuse_pickle(name: str, revision: str | None) -> None:
    """A pickle is not downloaded; that there is one only the Hub knows."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(name, revision=revision)
    except Exception:  # as above; what is missing is said when the folder is read
        return
    pickles = [file for file in PICKLES if file in files]
    if pickles:
        folder, at = name.rpartition("/")[2], f", revision={revision!r}" if revision else ""
        raise is_pickle(
            f"{name}/{pickles[0]} on the Hub",
            folder,
            "from huggingface_hub import snapshot_download; "
            f"snapshot_download({name!r}{at}, local_dir={folder!r}); ",
        )
