"""The entry point asks for the environment that training on a CPU is fastest in."""

import json
import os
import platform
import subprocess
import sys

import pytest

from contrastive.__main__ import environment

# As the console script does, with a command that says where it runs.
CODE = """
import json, os
import contrastive.__main__, contrastive.cli
said = lambda: [os.getpid(), os.environ["GLIBC_TUNABLES"]]
contrastive.cli.main = lambda: print(json.dumps(said()))
contrastive.__main__.main()
"""


def started(**variables):
    others = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE], env=others | variables, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, tunables = json.load(process.stdout)
    assert process.wait() == 0
    return pid == process.pid, tunables.split(":")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc reads GLIBC_TUNABLES")
def test_the_command_starts_anew_in_the_same_process_with_glibc_told():
    same_process, tunables = started()
    assert same_process  # signals and whoever waits for it find it
    assert "glibc.malloc.hugetlb=1" in tunables
    assert "glibc.malloc.arena_max=1" in tunables


def test_what_the_user_has_set_stays():
    own = {"GLIBC_TUNABLES": "glibc.malloc.check=0"}
    assert started(**own) == (True, ["glibc.malloc.check=0"])
    assert environment(own) == own
