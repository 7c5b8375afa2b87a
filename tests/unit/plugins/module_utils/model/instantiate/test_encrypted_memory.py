# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the memory of a machine is to be encrypted."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate.encrypted_memory import (
    check_encryption,
    read_encryption,
)
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import MemoryEncryption
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ('MEMORY_ENCRYPTION = [ TYPE = "sev" ]', MemoryEncryption("SEV", 256)),
        ('MEMORY_ENCRYPTION = [ TYPE = "SEV-ES" ] MEMORY_TUNE_OFFSET = 64', MemoryEncryption("SEV-ES", 64)),
        ("MEMORY_TUNE_OFFSET = 64", None),
    ],
)
def test_what_is_asked_for(text: str, wanted: MemoryEncryption | None) -> None:
    assert read_encryption(parse("MEMORY = 64 " + text), "VM web") == wanted


@pytest.mark.parametrize(
    "text", ["MEMORY_ENCRYPTION = SEV", 'MEMORY_ENCRYPTION = [ TYPE = "TDX" ]', 'MEMORY_ENCRYPTION = [ TYPE = "" ]']
)
def test_what_is_to_be_encrypted_must_not_run_without(text: str) -> None:
    with pytest.raises(InvalidValue, match="one that is to be must not run without"):
        check_encryption(parse("MEMORY = 64 " + text), "VM web")
