# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpkg knows, by the real dpkg-query where there is one."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.host import command, packages


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="dpkg-query is Debian's")
def test_those_that_are_installed_in_the_order_of_the_question() -> None:
    assert packages.installed(["no-such-package", "dpkg", "base-files"]) == ["dpkg", "base-files"]


def test_no_package_is_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find", lambda _program: pytest.fail("asked"))
    assert packages.installed([]) == []


def test_a_host_without_dpkg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_path", lambda: "/nowhere")
    with pytest.raises(NebulaError, match="dpkg-query"):
        packages.installed(["dpkg"])
