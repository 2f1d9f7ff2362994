"""The requirements files, the extras of the package and the tested versions agree."""

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
def test_every_requirement_has_an_upper_bound(name):
    for requirement in requirements(name):
        if requirement.name != "importlib_resources":  # Every version works.
            assert {bound.operator for bound in requirement.specifier} & {"<", "=="}, requirement


@pytest.mark.parametrize("extra", ["serve", "gcs", "s3"])
def test_the_extra_is_tested(extra):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {Requirement(line) for line in extras[extra]} <= set(requirements("requirements-dev.txt"))


def test_constraints_satisfy_all_requirements():
    pins = {canonicalize_name(pin.name): next(iter(pin.specifier)) for pin in requirements("constraints.txt")}
    assert {pin.operator for pin in pins.values()} == {"=="}
    for requirement in (requirement for name in TESTED for requirement in requirements(name)):
        assert pins[canonicalize_name(requirement.name)].version in requirement.specifier, requirement
