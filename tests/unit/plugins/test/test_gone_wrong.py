# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure is seen under `failed_when: false`, in every form in which Ansible leaves one."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.test.gone_wrong import gone_wrong

GOOD = [
    {"changed": True, "failed": False, "vms": []},
    {"skipped": True, "msg": "when"},
    {"failed_when_result": False},
    "",
]
BAD: list[dict[str, Any]] = [
    {"failed": True},
    {"failed": False, "failed_when_result": False, "msg": "VM a: …"},
    {"unreachable": True},
    {"exception": "Traceback …"},
    # A module that crashed, or whose arguments were refused: nothing else tells of it in ansible-core 2.19.
    {"changed": False, "failed": False, "failed_when_result": False, "failed_when_suppressed_exception": "…"},
]


@pytest.mark.parametrize("result", GOOD)
def test_good(result: Any) -> None:
    assert not gone_wrong(result)


@pytest.mark.parametrize("result", BAD)
def test_bad(result: Any) -> None:
    assert gone_wrong(result)
