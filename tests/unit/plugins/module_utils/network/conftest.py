# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of a host that the tests of this directory call."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.network import openvswitch_bridges, openvswitch_state


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A host without any program until they are added."""
    return Programs(tmp_path / "programs", monkeypatch)


@pytest.fixture(autouse=True)
def no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the host of the tests has: no Open vSwitch."""
    for module in (openvswitch_state, openvswitch_bridges):
        monkeypatch.setattr(module, "observe", lambda *_places: openvswitch_state.Switches())
        monkeypatch.setattr(module, "bridges_of_catalog", lambda *_arguments: {})
