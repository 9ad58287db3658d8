"""`contrastive` and `python -m contrastive`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

# A step allocates gigabytes of temporaries, which glibc returns to the system after each step and
# then faults in again page by page. These settings keep them allocated, in the main heap and on
# huge pages. glibc reads them when a process starts.
_GLIBC = {
    "mmap_max": "0",
    "trim_threshold": str(64 << 30),
    "top_pad": str(64 << 20),
    "arena_max": "1",
    "hugetlb": "1",
}


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Adds the glibc settings with which training on a CPU is fastest.

    Args:
      given: Environment variables of the process; its GLIBC_TUNABLES take precedence.

    Returns:
      All environment variables.
    """
    tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in _GLIBC.items())
    return {"GLIBC_TUNABLES": tunables, **given}


def main() -> None:
    """Runs the command line, after restarting the process if glibc needs different settings."""
    if "GLIBC_TUNABLES" not in os.environ and platform.libc_ver()[0] == "glibc":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment(os.environ))
    from contrastive.cli import main as command

    command()


if __name__ == "__main__":
    main()
