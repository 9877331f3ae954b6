"""Who follows an alias keeps an answer while a new version cannot be loaded; who names a version gets it or the error."""

from dataclasses import dataclass, field

import pytest

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, RequestError
from peftrec.serving import resolving
from peftrec.serving.resolving import Following


class _RoomError(MemoryError):
    """Takes what peftrec's errors take."""

    def __init__(self, found: str, **_: str) -> None:
        super().__init__(found)


@dataclass
class Shelf:
    """Stands for slots: versions that can be loaded, and what was asked."""

    good: set[str]
    asked: list[str] = field(default_factory=list)
    error: type[Exception] = CorruptAdapterError

    def get(self, version: str) -> str:
        self.asked.append(version)
        if version not in self.good:
            raise self.error("a byte is wrong", expected="whole files", remedy="restore them")
        return version.upper()


@dataclass
class Books:
    """Stands for a registry: versions that are there, and aliases that are split."""

    deleted: set[str] = field(default_factory=set)
    split: dict[str, dict[str, float]] = field(default_factory=dict)

    def resolve(self, version: str) -> None:
        if version in self.deleted:
            raise AdapterNotFoundError(version, expected="one that is there", remedy="restore it")

    def splits(self, name: str) -> dict[str, dict[str, float]]:
        return self.split


def _following(shelf: Shelf, books: Books | None = None) -> Following:
    return Following(shelf, books or Books())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("error", [CorruptAdapterError, RequestError, _RoomError])
def test_the_version_before_goes_on(error: type[Exception], caplog: pytest.LogCaptureFixture):
    shelf = Shelf({"shop@1"}, error=error)
    following = _following(shelf)
    assert following.get("shop", "shop@1") == ("SHOP@1", "shop@1")
    assert following.get("shop", "shop@2") == ("SHOP@1", "shop@1")
    assert following.get("shop", "shop@2") == ("SHOP@1", "shop@1")
    assert shelf.asked.count("shop@2") == 1, "what is broken is not read again for every request"
    assert "shop@2 cannot be served, shop@1 goes on for 'shop'" in caplog.text


def test_who_names_it_gets_the_error():
    following = _following(Shelf({"shop@1"}))
    following.get("shop", "shop@1")
    with pytest.raises(CorruptAdapterError):
        following.get("shop@2", "shop@2")


def test_who_was_never_served_gets_the_error():
    following = _following(Shelf({"shop@1"}))
    following.get("shop", "shop@1")
    with pytest.raises(CorruptAdapterError):
        following.get("shop@canary", "shop@2")


def test_once_it_is_mended_it_takes_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resolving, "RETRY_S", 0.0)
    shelf = Shelf({"shop@1"})
    following = _following(shelf)
    following.get("shop", "shop@1")
    assert following.get("shop", "shop@2")[1] == "shop@1"
    shelf.good.add("shop@2")
    assert following.get("shop", "shop@2") == ("SHOP@2", "shop@2")
    shelf.good.remove("shop@1")
    assert following.get("shop", "shop@2")[1] == "shop@2"


def test_what_was_deleted_or_belongs_to_others_does_not_go_on():
    books = Books()
    following = _following(Shelf({"shop@1"}), books)
    following.get("shop", "shop@1")
    books.deleted.add("shop@1")
    with pytest.raises(CorruptAdapterError):
        following.get("shop", "shop@2")
    books.deleted.clear()
    books.split = {"production": {"1": 0.5, "2": 0.5}}
    with pytest.raises(CorruptAdapterError):
        following.get("shop", "shop@2")
    books.split = {"canary": {"1": 0.5, "2": 0.5}}
    assert following.get("shop", "shop@2")[1] == "shop@1"


def test_a_version_that_is_gone_meanwhile_gives_way_to_the_newer_one():
    shelf = Shelf({"shop@1"})
    following = _following(shelf)
    following.get("shop", "shop@1")
    assert following.get("shop", "shop@2")[1] == "shop@1"
    shelf.good = {"shop@2"}
    assert following.get("shop", "shop@2")[1] == "shop@2"
