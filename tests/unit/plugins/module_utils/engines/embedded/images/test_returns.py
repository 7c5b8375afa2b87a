# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images whose newest content is on a host."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images import returns
from ansible_collections.nebula.provision.plugins.module_utils.errors import WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image_operations import Return
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.images.conftest import (
    machine,
)


@pytest.fixture
def away(images, ready, store):
    """An image that a machine on node1 has written to, and is gone."""
    ready(persistent=True)
    images.uses.acquire(machine(store, 1), 0, 0, writable=True)
    images.uses.release(1, written=True, back=Return("node1"))
    return images.info(0)


def test_it_comes_from_there_and_nobody_gets_it_before(away, images, store):
    assert (away.state, returns.coming_from(store, "node1")) == (ImageState.LOCKED_USED_PERS, ["demo"])
    assert returns.coming_from(store, "node2") == []
    with pytest.raises(WrongState, match="node1"):
        images.uses.acquire(machine(store, 2), 0, 0, writable=True)
    back = images.returned("demo")
    assert (back.state, back.generation, returns.coming_from(store, "node1")) == (ImageState.READY, 1, [])


def test_a_host_that_is_forgotten_sends_nothing(away, images, store):
    returns.forget_host(store, "node2")
    assert images.info(0).state == ImageState.LOCKED_USED_PERS
    returns.forget_host(store, "node1")
    found = images.info(0)
    assert found.state == ImageState.ERROR and "node1, which was forgotten" in found.error
