# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who copies and restores the catalog of an engine."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines import catalog_copies, registry
from ansible_collections.nebula.provision.plugins.module_utils.errors import Unsupported


@pytest.mark.parametrize("named", [{}, {"engine": None}, {"engine": "embedded"}])
def test_the_embedded_catalog_is_copied_here(named):
    assert catalog_copies.copies_of(named) is catalog_copies.COPIES["embedded"]


def test_copies_of_a_catalog_that_another_program_keeps_are_that_programs():
    with pytest.raises(Unsupported) as caught:
        catalog_copies.copies_of({"engine": "nosuch"})
    error = caught.value
    assert "backup of the catalog" in error.asked
    assert "another program" in error.found
    assert "backup of that program" in error.remedy


def test_what_is_copied_is_an_engine():
    assert set(catalog_copies.COPIES) <= set(registry.ENGINES)
