"""Names on the Hugging Face Hub to folders."""

from __future__ import annotations

from pathlib import Path

from contrastive.errors import FolderError

# No pickles, and not the copies for other runtimes that live in folders of their own.
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")
_UNWANTED = ("onnx/*", "openvino/*", "coreml/*", "gguf/*")


def local_folder(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    token: str | None = None,
) -> Path:
    """A folder as it is, or the snapshot of a name on the Hub, downloaded once.

    Args:
      name: A folder, or `owner/name`.
      revision: Branch, tag or commit on the Hub.
      cache_dir: Where downloads are kept; the Hub's own cache unless given.
      token: For private models; the one you have logged in with unless given.

    Returns:
      The folder.

    Raises:
      FolderError: If it is neither a folder here nor found on the Hub.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_UNWANTED),
        )
    except Exception as error:  # network, permissions, names: many kinds
        reason = str(error).strip().split("\n")[0]
        raise FolderError(
            f"{name!r} is not a folder here, and the Hub does not give it: {reason}"
        ) from None
    return Path(found)
