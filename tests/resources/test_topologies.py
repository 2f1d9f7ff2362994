"""Names of TPU slices, and what the dry run says without the TPU compiler."""

import importlib.util

import pytest

from transformer_jax.commands.train import parse_train
from transformer_jax.errors import InputError
from transformer_jax.resources.topologies import MAX_CHIPS, find_topology, topology_names


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("v5e-4x4", "Did you mean --topology v5e:4x4?"),
        ("v6e:4y8", "Did you mean --topology v6e:4x8?"),
        ("nonsense", "Choose one of v4:1x1x1, "),
        ("v5e:0x2", "Did you mean --topology v5e:2x2?"),
        (f"v5p:{MAX_CHIPS}x2x1", "does not exist"),
    ],
)
def test_unknown_topology_is_refused_with_the_nearest(name, remedy):
    with pytest.raises(InputError, match=rf"^the topology {name} does not exist\. ") as caught:
        find_topology(name)
    assert remedy in str(caught.value)


def test_missing_compiler_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'^--topology needs .* Run: pip install "jax\[tpu\]"$'):
        find_topology("v5e:2x2")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--topology", "v5e:2x2"], "Add --dry-run or remove --topology"),
        (["--fit"], "Add --topology"),
        (["--dry-run", "--fit"], "Add --topology"),
    ],
)
def test_options_of_the_dry_run_are_refused_without_it(options, remedy, tmp_path):
    with pytest.raises(InputError, match=remedy):
        parse_train(["--workdir", str(tmp_path), *options])


def test_help_lists_the_topologies(capsys):
    with pytest.raises(SystemExit):
        parse_train(["--help"])
    words = capsys.readouterr().out.replace("│", " ").split()
    assert set(topology_names()) <= {word.rstrip(",.") for word in words}
