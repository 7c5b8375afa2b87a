# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of a catalog in a real SQLite file, and machines that only use them."""

from __future__ import annotations

import uuid

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.images.image_verbs import Images
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.store import Store
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState


@pytest.fixture
def store(tmp_path):
    opened = Store(str(tmp_path), create=True)
    yield opened
    opened.close()


@pytest.fixture
def images(store):
    return Images(store)


@pytest.fixture
def ready(images):
    """Registers an image and makes it READY, as if it had been stored."""

    def make(name="demo", **values) -> Image:
        image = images.allocate(Image(id=None, name=name, **values))
        return images.update(image.id, state=ImageState.READY, sha256="ab" * 32, size=8)

    return make


def machine(store, vm_id, name=None):
    store.db.execute(
        "INSERT INTO vms (id, name, uuid, state, lcm_state, wanted, cpu, memory, request, body, stime) "
        "VALUES (?, ?, ?, 3, 1, 'RUNNING', 1, 64, '', '', 0)",
        (vm_id, name or f"vm{vm_id}", str(uuid.uuid4())),
    )
    return vm_id
