# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host can encrypt the memory of machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.host import memory_encryption


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, ()),
        ({"sev": "N", "sev_es": "N"}, ()),
        ({"sev": "Y", "sev_es": "N"}, ("SEV",)),
        ({"sev": "1", "sev_es": "Y"}, ("SEV", "SEV-ES")),
    ],
)
def test_what_the_module_of_the_kernel_says(tmp_path: Path, said: dict[str, str], wanted: tuple[str, ...]) -> None:
    for name, text in said.items():
        (tmp_path / name).write_text(f"{text}\n", encoding="ascii")
    assert memory_encryption.kinds(str(tmp_path)) == wanted
