# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that libvirt calls: which one runs them, and that each knows its own. test_start_hook.py and
test_disk_hook.py have how they come and go."""

from __future__ import annotations

import os

from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.lxc import disk_hook, hooks, start_hook


def test_each_knows_its_own_and_not_the_other() -> None:
    programs = {each.PROGRAM: each.text() for each in (disk_hook, start_hook)}
    assert len({program.path for program in programs}) == len({program.mark for program in programs}) == 2
    for program, text in programs.items():
        assert [other.mark in text for other in programs] == [other is program for other in programs]
        assert program.path.parent == hooks.HOOKS


def test_they_are_run_by_what_is_there_without_ansible() -> None:
    assert os.access(hooks.python(), os.X_OK)
