"""Downloads of models from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from contrastive.errors import FolderError
from contrastive.interop.weights import PICKLES, is_pickle

# Excludes pickles, and the weights for other runtimes, which are in separate folders.
_ALLOWED = ("*.json", "*.safetensors", "*.txt", "*.model")
_IGNORED = ("onnx/*", "openvino/*", "coreml/*", "gguf/*")


def local_folder(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> Path:
    """Returns a local folder, downloading a model from the Hub if necessary.

    Args:
      name: A local folder, or a model name on the Hub, `owner/name`.
      revision: Branch, tag or commit on the Hub; None is the default branch.
      cache_dir: Folder for downloads; None is the Hub's default cache.

    Returns:
      The folder.

    Raises:
      FolderError: If the name is neither a local folder nor available on the Hub, or if its weights
        are a pickle.
    """
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith("."):  # never a name on the Hub
        raise FolderError(
            f"{name}: no such folder; give the folder of a model or a name on the Hub"
        )
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=list(_ALLOWED),
            ignore_patterns=list(_IGNORED),
        )
    except Exception as error:  # many types: network, permissions, invalid names
        reason = str(error).strip().split("\n")[0]
        raise FolderError(
            f"{name!r} is not a local folder and cannot be downloaded from the Hub; check the name "
            f"and the network: {reason}"
        ) from None
    if not any(Path(snapshot).rglob("*.safetensors")):
        _refuse_pickle(name, revision)
    return Path(snapshot)


def _refuse_pickle(name: str, revision: str | None) -> None:
    """Raises if the Hub has a pickle, which the snapshot does not contain."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(name, revision=revision)
    except Exception:  # as above; `load` reports the missing file
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
