# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of images a host lacks for its plan, and when anything is to be fetched from one."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_deliveries import (
    generations_of,
    has_images_to_fetch,
    images_to_send,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import DIG, Return, Rewrite
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed, Plan
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.model.transfer import (
    BASE,
    ENDED,
    OWN,
    SAVED,
    SHARED,
    SSH,
    PlannedImage,
    name_of,
)

UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
NAME = name_of(UUID, 2)
BASE_FILE = PlannedImage(BASE, NAME, "debian", "/srv/debian", "ab")
OWN_FILE = PlannedImage(OWN, NAME, "debian", "/srv/debian")


def plan(*images: PlannedImage, transfer: str = SSH) -> Plan:
    return Plan("catalog", 1, "node", images=images, transfer=transfer)


def test_what_a_host_does_not_have_is_lacking_with_the_room_that_is_there() -> None:
    found = images_to_send({"node": plan(BASE_FILE, OWN_FILE)}, [Observed("node", images=(NAME,), room=512)])
    assert found == {
        "node": {
            "images": [{"kind": "own", "name": NAME, "image": "debian", "path": "/srv/debian", "sha256": ""}],
            "room": 512,
        }
    }


@pytest.mark.parametrize("there", [(NAME, f"own-{NAME}"), (f"own-{NAME}", NAME, "more")])
def test_a_host_that_has_everything_lacks_nothing(there: tuple[str, ...]) -> None:
    assert images_to_send({"node": plan(BASE_FILE, OWN_FILE)}, [Observed("node", images=there)]) == {}


@pytest.mark.parametrize("kind", [ENDED, SAVED])
def test_what_the_node_itself_makes_is_not_sent(kind: str) -> None:
    assert images_to_send({"node": plan(PlannedImage(kind, NAME, "a", "/a"))}, [Observed("node")]) == {}


def test_a_host_that_sees_the_datastores_is_sent_nothing() -> None:
    assert images_to_send({"node": plan(BASE_FILE, transfer=SHARED)}, [Observed("node")]) == {}


@pytest.mark.parametrize("observed", [[], [Observed("other")], [Observed("node", reached=False)]])
def test_nothing_is_known_of_a_host_that_did_not_answer(observed: list[Observed]) -> None:
    assert images_to_send({"node": plan(BASE_FILE)}, observed) == {}


def test_each_host_is_told_its_own() -> None:
    plans = {"a": plan(BASE_FILE), "b": plan(BASE_FILE), "c": plan()}
    found = images_to_send(plans, [Observed("a", images=(NAME,)), Observed("b"), Observed("c")])
    assert list(found) == ["b"]


def image(**more: object) -> Image:
    return Image(1, "debian", uuid=UUID, generation=2, **more)  # type: ignore[arg-type]


def test_the_generations_are_by_uuid() -> None:
    assert generations_of([image()]) == {UUID: 2}


@pytest.mark.parametrize("ran", [True, False])
def test_something_is_fetched_where_an_image_is_on_its_way_back(ran: bool) -> None:
    assert has_images_to_fetch([image(operation=Return("node", ran))])
    assert not has_images_to_fetch([image(operation=Rewrite(DIG, {"size": 9}, ImageState.READY))])
    assert not has_images_to_fetch([])


@pytest.mark.parametrize(
    ("left", "fetched"),
    [(f"own-{name_of(UUID, 1)}", True), (f"own-{name_of(UUID, 2)}", False), ("something else", False)],
)
def test_something_is_fetched_where_a_host_has_what_is_past(left: str, fetched: bool) -> None:
    observed = [Observed("idle"), Observed("node", returns={left: 5})]
    assert has_images_to_fetch([image()], observed) is fetched
