# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no node heard is not recorded. What a whole installation makes of it: test_steps_life.py."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import WrongState
from ansible_collections.nebula.provision.plugins.module_utils.install.conclude import record
from ansible_collections.nebula.provision.plugins.module_utils.install.install_item import Iso, Spec
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import Outcome, Settings, Work
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.installations import Waited

SPEC = Spec("debian", "present", Iso("iso"))


@pytest.mark.parametrize("waited", [[], [Waited("other", installed=True)], [Waited("debian", installed=False)]])
def test_what_was_not_heard_stays(waited: list[Waited]) -> None:
    work = Work("debian", spec=SPEC)
    record(cast("Any", None), work, SPEC, Settings(waited={"node1": waited}), Outcome([work]))
    assert not work.changed


def test_what_another_run_has_gone_on_with_is_not_recorded() -> None:
    work = Work("debian", spec=SPEC)
    with pytest.raises(WrongState, match="another run has gone on"):
        waited = {"node1": [Waited("debian", 3, True)]}
        record(cast("Any", None), work, SPEC, Settings(waited=waited), Outcome([work]))
