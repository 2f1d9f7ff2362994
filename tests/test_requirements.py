"""What may be installed, and what is tested, agree."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TESTED = ("requirements.txt", "requirements-dev.txt", "requirements-parity.txt", "requirements-docs.txt")


def requirements(name):
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


@pytest.mark.parametrize("name", [*TESTED, "requirements-fuzz.txt"])
def test_every_requirement_has_a_range_that_ends(name):
    for one in requirements(name):
        if one.name != "importlib_resources":  # Only its presence is needed.
            assert {part.operator for part in one.specifier} & {"<", "=="}, one


def test_what_the_extra_installs_is_tested():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["serve"]
    assert {Requirement(one) for one in extra} <= set(requirements("requirements-dev.txt"))


def test_the_exact_set_lies_within_the_ranges():
    exact = {canonicalize_name(one.name): next(iter(one.specifier)) for one in requirements("constraints.txt")}
    assert {pin.operator for pin in exact.values()} == {"=="}
    for one in (one for name in TESTED for one in requirements(name)):
        assert exact[canonicalize_name(one.name)].version in one.specifier, one
