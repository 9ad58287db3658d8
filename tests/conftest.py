import hashlib
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")

# All of this comes before anything imports JAX, and processes that tests start inherit it.
# Eight devices on any machine.
FLAGS = ["--xla_force_host_platform_device_count=8"]
if version("jaxlib").startswith("0.10.") and PROFILE != "nightly":
    # Most of the time of the tests is compilation, and these take two thirds of it away. At night
    # programs are compiled as they are for users. XLA aborts at flags that it does not know.
    FLAGS += [
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
os.environ["JAX_PLATFORMS"] = "cpu"


def programs() -> Path:
    """Compiled programs are shared by all processes of a test run, and kept for the next one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    processor = f"{platform.machine()} {platform.processor()} {features}"
    name = f"jax-{version('jax')}-{hashlib.sha256(processor.encode()).hexdigest()[:12]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "contrastive-tests" / "programs" / name


os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(programs()))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"

if "CONTRASTIVE_CACHE" not in os.environ:
    # Shared by the workers of one test run, so that data is prepared once.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    os.environ["CONTRASTIVE_CACHE"] = str(Path(tempfile.gettempdir()) / f"contrastive-tests-{run}")

# Of `make test`, `make test-all` and `make test-nightly`; the last has new examples each time.
for name, examples in (("quick", 5), ("all", 25), ("nightly", 250)):
    derandomize = name != "nightly"
    settings.register_profile(name, max_examples=examples, deadline=None, derandomize=derandomize)
settings.load_profile(PROFILE)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is not part of the project; see CONTRIBUTING."""
    root = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("CONTRASTIVE_DATA", root.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"development data not found at {path}; set CONTRASTIVE_DATA to its folder")
    return path
