"""What holds for every test: eight fake CPU devices, checked shapes, no network, no window."""

import os
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

# Before jax is imported, which reads these once. A test that starts a program of its own passes them on to it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

# Before the package is imported: every call then checks its arguments and results against the annotated shapes.
jaxtyping.install_import_hook("transformer_jax", "beartype.beartype")

import jax  # noqa: E402

# A vector added to a matrix must say along which axis.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests compile much and run little: a third of the time to compile for twice the time to run.
jax.config.update("jax_disable_most_optimizations", True)

# How long an example takes depends on the machine; what it shows does not.
hypothesis.settings.register_profile("transformer_jax", deadline=None)
hypothesis.settings.load_profile("transformer_jax")


@pytest.fixture(scope="session", autouse=True)
def corpora(tmp_path_factory):
    """Prepared corpora of tests, and of programs that they start, stay out of the user's cache."""
    os.environ["TRANSFORMER_JAX_CORPORA"] = str(tmp_path_factory.mktemp("corpora"))
