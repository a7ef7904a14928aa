"""What is read of a cluster: everything in pages, and going on with a note where a right is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import yaml

from dra_driver.errors import SettingsRejected
from dra_driver.kube.connection import JsonObject
from dra_driver.kube.errors import Forbidden, KubeError, NotFound
from dra_driver.kubectl.objects import kubeconfig_path, namespace_of, read


class Server:
    """Answers lists from a table of pages; what is not in it is not found."""

    def __init__(self, pages: Mapping[str, list[list[JsonObject]]], *, refuses: Mapping[str, KubeError]) -> None:
        self._pages = pages
        self._refuses = refuses

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        """See Connection."""
        kind = path.rpartition("/")[2]
        if kind in self._refuses:
            raise self._refuses[kind]
        pages = self._pages.get(kind, [[]])
        number = int((query or {}).get("continue", "0"))
        more = {"continue": str(number + 1)} if number + 1 < len(pages) else {}
        return {"items": pages[number], "metadata": more}

    def watch(self, path: str, *, query: Mapping[str, str]) -> AsyncIterator[JsonObject]:
        """Nothing here watches."""
        raise AssertionError(path)


def named(*names: str) -> list[JsonObject]:
    """Items as lists hold them: without their kind."""
    return [{"metadata": {"name": name}} for name in names]


async def test_all_pages_are_read_and_every_item_gets_its_kind() -> None:
    server = Server({"resourceslices": [named("a", "b"), named("c")], "nodes": [named("n")]}, refuses={})
    found = await read(server, "team-a")
    assert [(one["kind"], one["metadata"]["name"]) for one in found.objects] == [
        *(("ResourceSlice", name) for name in "abc"),
        ("Node", "n"),
    ]


async def test_without_the_right_to_see_nodes_it_goes_on_and_says_so() -> None:
    refused = {"nodes": Forbidden("GET", 403, "no"), "devicetaintrules": NotFound("GET", 404, "no such kind")}
    found = await read(Server({}, refuses=refused), "team-a")
    assert [note.partition(":")[0] for note in found.notes] == ["Nodes may not be read"]


async def test_without_the_right_to_see_claims_there_is_no_answer() -> None:
    with pytest.raises(Forbidden):
        await read(Server({}, refuses={"resourceclaims": Forbidden("GET", 403, "no")}), "team-a")


def test_the_kubeconfig_is_the_one_that_kubectl_would_use(tmp_path: Path) -> None:
    usual = tmp_path / ".kube" / "config"
    assert kubeconfig_path("", {"HOME": str(tmp_path)}) == ""
    usual.parent.mkdir()
    usual.write_text("{}")
    assert kubeconfig_path("", {"HOME": str(tmp_path)}) == str(usual)
    assert kubeconfig_path("", {"HOME": str(tmp_path), "KUBECONFIG": "/a:/b"}) == "/a"
    assert kubeconfig_path("/c", {"KUBECONFIG": "/a"}) == "/c"


def test_the_namespace_is_that_of_the_context(tmp_path: Path) -> None:
    config = tmp_path / "config"
    contexts = [{"name": "here", "context": {"namespace": "team-a"}}, {"name": "there", "context": {}}]
    config.write_text(yaml.safe_dump({"current-context": "here", "contexts": contexts}))
    assert namespace_of(str(config)) == "team-a"
    config.write_text(yaml.safe_dump({"current-context": "there", "contexts": contexts}))
    assert namespace_of(str(config)) == "default"
    config.write_text("[]")
    with pytest.raises(SettingsRejected):
        namespace_of(str(config))
