# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from unittest import mock

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import HypervisorError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.libvirt import qemu_monitor


class LibvirtError(Exception):
    def get_error_message(self) -> str:
        return "no such\ndomain"


def ask(monkeypatch: pytest.MonkeyPatch, answer: object) -> object:
    library = mock.Mock()
    library.qemuMonitorCommand.side_effect = answer if isinstance(answer, Exception) else [json.dumps(answer)]
    monkeypatch.setattr(qemu_monitor, "require", lambda _name: library)
    found = qemu_monitor.ask(mock.Mock(libvirtError=LibvirtError), "domain", "a backup", "query-block", flat=True)
    asked = json.loads(library.qemuMonitorCommand.call_args.args[1])
    assert asked == {"execute": "query-block", "arguments": {"flat": True}}
    return found


def test_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, {"return": [1], "id": "x"}) == [1]


@pytest.mark.parametrize("answer", [LibvirtError(), {"error": {"desc": "no such domain"}}])
def test_what_fails(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    with pytest.raises(HypervisorError, match="no such domain"):
        ask(monkeypatch, answer)
