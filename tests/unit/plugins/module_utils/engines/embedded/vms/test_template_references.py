# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What templates name has to be there, and fit."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, NotFound, WrongState
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import PLAIN


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (PLAIN.with_vector("DISK", {"IMAGE": "nosuch"}), "VM a, DISK 0: image 'nosuch'"),
        (PLAIN.with_vector("NIC", {"NETWORK": "nosuch"}), "VM a, NIC 0: network 'nosuch'"),
        (PLAIN.with_vector("CONTEXT", {"FILES_DS": '$FILE[IMAGE="nosuch"]'}), "image 'nosuch'"),
    ],
)
def test_what_a_template_names_has_to_be_there(inside, template, says):
    with pytest.raises(NotFound, match=says), inside.attempt():
        inside.vms.instantiate([VmRequest("a", template)])


@pytest.mark.parametrize(
    ("kind", "state", "says"),
    [
        (ImageType.OS, ImageState.READY, r"\$FILE of image f: it is of type OS. Name an image of type CONTEXT"),
        (ImageType.CONTEXT, ImageState.ERROR, r"\$FILE of image f: it is in state ERROR \(no room\)"),
    ],
)
def test_a_file_of_a_context_is_an_image_for_that_which_is_ready(inside, kind, state, says):
    made = inside.images.allocate(Image(None, "f", type=kind))
    inside.images.update(made.id, state=state, error="no room")
    template = PLAIN.with_vector("CONTEXT", {"FILES_DS": '$FILE[IMAGE="f"]'})
    with pytest.raises((InvalidValue, WrongState), match=says), inside.attempt():
        inside.vms.instantiate([VmRequest("a", template)])
