import os

# Eight devices on any machine; before anything imports JAX.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

import tempfile
from pathlib import Path

import pytest

if "CONTRASTIVE_CACHE" not in os.environ:
    # Shared by the workers of one test run, so that data is prepared once.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    os.environ["CONTRASTIVE_CACHE"] = str(Path(tempfile.gettempdir()) / f"contrastive-tests-{run}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not part of the project; see CONTRIBUTING."""
    root = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("CONTRASTIVE_DATA", root.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"development data not found at {path}; set CONTRASTIVE_DATA to its folder")
    return path
