"""What each call makes a dozen of: fields are set fast, and what a cycle holds is found all the same."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
from msgspec import NODEFAULT

import headgate.app
from headgate.callstate import CallState
from headgate.values import Call

assert headgate.app  # imports all kinds


class Thing:
    """Something that the garbage collector knows, as is every part of a process."""


def kinds(kind: type[CallState] = CallState) -> Iterator[type[CallState]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


def made(kind: type[CallState]) -> Any:
    """Return one that is made of the least that it can be made of."""
    if kind is Call:
        return Call(bytes(16), "chat", 0)
    defaults = kind.__struct_defaults__[::-1]
    fields = zip_longest(kind.__struct_fields__[::-1], defaults, fillvalue=NODEFAULT)
    return kind(**{str(name): Thing() for name, default in fields if default is NODEFAULT})


@pytest.mark.parametrize("kind", list(kinds()))
def test_the_garbage_collector_knows_each_from_the_beginning(kind: type[CallState]) -> None:
    one = made(kind)
    assert gc.is_tracked(one)
    assert type(one).__setattr__ is object.__setattr__
    with pytest.raises(AttributeError):
        one.no_such_field = 1
