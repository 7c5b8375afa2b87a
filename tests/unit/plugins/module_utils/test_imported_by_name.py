# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are imported by their names."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import files_on_frontend
from ansible_collections.nebula.provision.plugins.module_utils.imported_by_name import file_named


def test_a_file_is_the_one_that_a_statement_imports() -> None:
    assert file_named("context.files_on_frontend") is files_on_frontend


def test_a_file_that_was_not_shipped_is_told() -> None:
    with pytest.raises(ModuleNotFoundError, match="nosuch"):
        file_named("context.nosuch")
