# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that machines use."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRequest
from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.states import (
    ImageState,
)
from ansible_collections.nebula.provision.tests.unit.plugins.module_utils.engines.embedded.vms.conftest import PLAIN


def test_an_image_that_no_machine_may_have_names_the_machine_and_the_disk(inside):
    inside.images.update("demo", state=ImageState.DISABLED)
    with pytest.raises(WrongState, match="VM a, disk 0: image demo"), inside.attempt():
        inside.vms.instantiate([VmRequest("a", PLAIN)])
