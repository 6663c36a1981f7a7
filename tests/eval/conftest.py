"""Fixtures of the readers of files."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from ferd_eval.errors import UserError

Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def refused() -> Refused:
    """``with refused("values", "the next step"):`` expects one line that says all of them."""

    @contextmanager
    def expect(*parts: object) -> Iterator[None]:
        with pytest.raises(UserError) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert message.endswith((".", "?"))
        for part in parts:
            assert str(part) in message, f"{part!r} is not in {message!r}"

    return expect


@pytest.fixture(scope="session")
def read_or_refused() -> Callable[[], AbstractContextManager[None]]:
    """``with read_or_refused():`` lets a reader succeed, or refuse with one line."""

    @contextmanager
    def allow() -> Iterator[None]:
        try:
            yield
        except UserError as error:
            if "\n" in str(error):
                pytest.fail(f"more than one line: {error}")

    return allow
