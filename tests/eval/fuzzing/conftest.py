from __future__ import annotations

from collections.abc import Callable

import pytest

from ferd_eval.errors import UserError

Refusal = Callable[[Callable[[], object]], str]


@pytest.fixture
def refusal() -> Refusal:
    """What a reader says when it refuses: one line."""

    def call(read: Callable[[], object]) -> str:
        with pytest.raises(UserError) as caught:
            read()
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 2000
        return message

    return call
