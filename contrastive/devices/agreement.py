"""Compares values across the processes of a run, before anything is written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jax._src.distributed import global_state  # its client, which has no public name

from contrastive.errors import ConfigError

_ROUND_MS = 10_000
_MOST_LISTED = 8
_calls = itertools.count()


def agree(topic: str, values: Mapping[str, Any]) -> None:
    """Checks that all processes have the same values; every process must call it.

    It waits for processes that are still busy. If one is lost, `Peers` ends the others.

    Args:
      topic: What the values are, for the message.
      values: Values by name, which JSON can represent.

    Raises:
      ConfigError: If a process has other values. The message, which is the same on all processes,
        has the names, and the values of both processes.
    """
    if global_state.client is None or global_state.num_processes == 1:
        return
    client, room = global_state.client, f"contrastive/agreement/{next(_calls)}"
    client.key_value_set(f"{room}/{global_state.process_id}", json.dumps(values))
    if global_state.process_id == 0:
        of_all = [
            json.loads(_wait(client, f"{room}/{number}"))
            for number in range(global_state.num_processes)
        ]
        client.key_value_set(f"{room}/verdict", disagreement(topic, of_all))
    verdict = _wait(client, f"{room}/verdict")
    if verdict:
        raise ConfigError(verdict)


def disagreement(topic: str, of_all: Sequence[Mapping[str, Any]]) -> str:
    """Describes how processes differ.

    >>> disagreement("configs", [{"steps": 10, "seed": 0}, {"steps": 20, "seed": 0}])
    'the processes have different configs: steps is 10 on process 0 and 20 on process 1'

    Args:
      topic: What the values are.
      of_all: Values by name, one mapping per process.

    Returns:
      The message; empty if there are no differences.
    """
    names = dict.fromkeys(name for values in of_all for name in values)
    differing = []
    for name in names:
        first = of_all[0].get(name)
        others = [n for n, values in enumerate(of_all) if values.get(name) != first]
        if others:
            value = of_all[others[0]].get(name)
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            differing.append(
                f"{name} is {first!r:.80} on process 0 and {value!r:.80} on process "
                f"{others[0]}{more}"
            )
    if not differing:
        return ""
    listed = "; ".join(differing[:_MOST_LISTED])
    more = len(differing) - _MOST_LISTED
    return f"the processes have different {topic}: {listed}{f'; and {more} more' * (more > 0)}"


def _wait(client: Any, key: str) -> str:
    while True:
        try:
            return client.blocking_key_value_get(key, _ROUND_MS)
        except Exception as error:  # of gRPC, without a public type
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
