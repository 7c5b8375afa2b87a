# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids begin with 0, and what was not stored has none."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NotFound
from ansible_collections.nebula.provision.plugins.module_utils.model.datastore import Datastore
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.object_ids import id_of
from ansible_collections.nebula.provision.plugins.module_utils.model.template import StoredTemplate, Template


@pytest.mark.parametrize(
    ("thing", "asked"),
    [
        (Image(None, "a"), "image a"),
        (Network(None, "a"), "network a"),
        (Datastore(None, "a"), "datastore a"),
        (StoredTemplate(None, "a", Template()), "template a"),
    ],
)
def test_what_has_no_id_was_not_stored(thing: object, asked: str) -> None:
    with pytest.raises(NotFound) as caught:
        id_of(thing)
    assert str(caught.value) == f"{asked}: it has no id. It was not stored"


def test_the_first_id_is_0() -> None:
    assert id_of(Image(0, "a")) == 0
