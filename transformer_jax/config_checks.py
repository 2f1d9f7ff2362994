"""Checks of the fields of config sections. ``section`` is the name of the section and ``names`` are its fields."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from transformer_jax.errors import InputError


def require_types(section_class: type, values: dict[str, Any]) -> None:
    """Raise TypeError if a value has the wrong type for its field. The command line checks types while parsing."""
    types = get_type_hints(section_class)
    for name, value in values.items():
        expected = types.get(name, object)
        if get_origin(expected) is Literal:
            is_valid = value in get_args(expected)
        elif expected is float:
            is_valid = isinstance(value, (float, int)) and abs(value) < math.inf
        else:
            is_valid = isinstance(value, expected)
        if not is_valid:
            raise TypeError(f"{name} has the invalid value {value!r}")


def require_at_least(config: Any, section: str, minimum: int, *names: str) -> None:
    """Raise InputError unless the fields are finite numbers of at least ``minimum``."""
    for name in names:
        if not minimum <= getattr(config, name) < math.inf:
            raise _out_of_range(config, section, name, f"a number of at least {minimum}")


def require_positive(config: Any, section: str, *names: str) -> None:
    """Raise InputError unless the fields are finite numbers above 0."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise _out_of_range(config, section, name, "a finite number above 0")


def require_below_one(config: Any, section: str, *names: str) -> None:
    """Raise InputError unless the fields are numbers of at least 0 and less than 1."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise _out_of_range(config, section, name, "a number of at least 0 and less than 1")


def _out_of_range(config: Any, section: str, name: str, valid: str) -> InputError:
    option = f"--{section}.{name.replace('_', '-')}"
    return InputError(f"{section}.{name} is {getattr(config, name)}. Set {option} to {valid}.")
