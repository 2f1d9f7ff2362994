"""Setup of all tests: eight simulated CPU devices, checked shapes, no network and no display."""

import gc
import os
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
from simulated_devices import simulate_devices

# Set before jax is imported, which reads these variables once. Programs that tests start inherit them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {simulate_devices(8)['XLA_FLAGS']}".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Tests compile much and run little. Without optimizations, compilation takes a third of the time and a run takes twice
# as long.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

# Set before the package is imported. Every call then checks arguments and results against the annotated shapes. The
# phrasebook is excluded: it has no arrays, and the checks would make it nine times slower.
ROOT = Path(__file__).parent.parent
FILES = [path for path in ROOT.glob("transformer_jax/**/*.py") if "phrasebook" not in path.parts]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES if path.stem != "__init__"]
jaxtyping.install_import_hook(MODULES, "beartype.beartype")

import jax  # noqa: E402

# JAX keeps millions of objects, and Python would search them for garbage again and again.
gc.set_threshold(50_000, 20, 100)

# Adding arrays of different rank then requires an explicit axis.
jax.config.update("jax_numpy_rank_promotion", "raise")

# No deadline, because the duration of an example depends on the machine.
hypothesis.settings.register_profile("transformer_jax", deadline=None)
hypothesis.settings.load_profile("transformer_jax")


@pytest.fixture(scope="session", autouse=True)
def corpora(tmp_path_factory):
    """Keep the prepared corpora of tests, and of programs that they start, out of the user's cache."""
    os.environ["TRANSFORMER_JAX_CORPORA"] = str(tmp_path_factory.mktemp("corpora"))
