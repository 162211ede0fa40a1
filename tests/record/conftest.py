"""A Hub on loopback, and a folder in its place, for the tests of what goes there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, serve
from tests.record.mirrored import REPO, Folder, Store


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        hub.people.add("ada", "hf_ada")
        yield hub


@pytest.fixture
def hub(hubs: Hub) -> Hub:
    """The Hub without a repository of ours, and without trouble."""
    hubs.faults.clear()
    hubs.faults.asked.clear()
    if repo := hubs.repos.get("dataset", REPO):
        hubs.repos.drop(repo)
    return hubs


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "bucket").mkdir()
    return Folder(tmp_path / "bucket")


@pytest.fixture(params=["hub", "folder"])
def store(request: pytest.FixtureRequest) -> Store:
    """Either of them."""
    return request.getfixturevalue(request.param)
