from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the checkout."""
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data are not at {folder}")
    return folder


@pytest.fixture(autouse=True)
def _no_ambient_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FERD_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
