# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which programs without a sandbox a result has to name. That programs are noted is in test_sandbox.py."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import unsandboxed_programs


def test_each_program_is_named_once_with_its_latest_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for program, why in (("/usr/bin/zstd", "no unshare"), ("/usr/bin/cp", "first"), ("cp", "not permitted")):
        unsandboxed_programs.note(program, why)
    first, second = unsandboxed_programs.warnings()
    assert first.startswith("cp ran without a sandbox") and "not permitted" in first and "first" not in first
    assert second.startswith("zstd ran") and "no unshare" in second and "SYS_ADMIN" in second


def test_a_user_who_is_not_root_had_no_privileges_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    unsandboxed_programs.note("cp", "this is not root")
    assert unsandboxed_programs.warnings() == []
