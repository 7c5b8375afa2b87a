# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An item of a list of images keeps what was changed on its way, and images are shown, found and told of by their
names."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict, NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import (
    GROW,
    Rewrite,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_item import spec_of
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_progress import (
    Work,
    current_image,
    error_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.sync import Item

IMAGE = Image(3, "demo", source="/var/lib/nebula/datastores/1/abc")
REWORKED = dataclasses.replace(IMAGE, operation=Rewrite(GROW, {"size": 9}, ImageState.READY))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EmbeddedEngine]:
    (tmp_path / "nebula").mkdir()
    found = EmbeddedEngine(str(tmp_path / "nebula"), create=True)
    with found.session():
        found.images.allocate(Image(None, "demo"))
        found.images.allocate(Image(None, "1234"))
    yield found
    found.close()


# -- the item on its way ----------------------------------------------------------------------------------------------


def test_what_was_changed_on_the_way_stays_so() -> None:
    work = Work(Item("demo", {"size": 4}, changed=False))
    work.became("demo", {"size": 4}, changed=False)
    assert not work.item.is_changed
    work.became("demo", {"size": 8}, changed=True)
    problem = Conflict("image demo", "it differs")
    work.became("demo", {"size": 8}, changed=False, error=problem)
    assert work.item.is_changed and work.item.error is problem
    assert (work.item.before, work.item.after) == ({"size": 4}, {"size": 8})


def test_an_error_is_that_of_the_last_look() -> None:
    work = Work(Item("demo", changed=False))
    work.became("demo", None, changed=False, error=Conflict("image demo", "it differs"))
    work.became("demo", {"size": 8}, changed=False)
    assert work.item.error is None


# -- how an image is shown --------------------------------------------------------------------------------------------


# -- found again ------------------------------------------------------------------------------------------------------


def test_an_image_is_the_same_by_its_uuid(engine: EmbeddedEngine) -> None:
    known = engine.images.info("demo")
    with engine.session():
        engine.images.update("demo", description="new")
    now = current_image(engine, known)
    assert now is not None and now.description == "new"
    # A restored catalog gives the number to another.
    assert current_image(engine, dataclasses.replace(known, uuid="another")) is None
    with engine.session():
        engine.images.delete("demo")
    assert current_image(engine, known) is None


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_names_the_image_once() -> None:
    spec = spec_of({"name": "demo"})
    assert str(error_of(Conflict("size 3", "it has 4"), spec, IMAGE)) == "image demo: size 3: it has 4"
    named = Conflict("image demo (id 3): size 3", "it has 4")
    assert error_of(named, spec, IMAGE) is named and named.asked == "image demo (id 3): size 3"
    # What is to be removed need not be wished for.
    assert error_of(Conflict("removing it", "it is used"), None, IMAGE).asked == "image demo: removing it"


def test_an_error_of_the_system_is_told_with_its_file() -> None:
    found = error_of(OSError(errno.EACCES, "Permission denied"), None, IMAGE)
    assert isinstance(found, NebulaError)
    assert found.asked.startswith("image demo: ") and IMAGE.source in found.asked


def test_what_is_neither_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        error_of(KeyError("a fault"), None, IMAGE)
