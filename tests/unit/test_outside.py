# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each plugin that is given data from outside has its line in the tests of such data."""

from __future__ import annotations

from pathlib import Path

import outside
import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def test_filters():
    documented = {path.stem for path in (PLUGINS / "filter").glob("*.yml")}
    # A file for each filter, but for the one that documents three.
    alone = {path.stem for path in (PLUGINS / "filter").glob("*.py")} - {"image_check"}
    assert set(outside.filters("x")) == documented | alone


def test_actions():
    assert set(outside.actions("x", "/nowhere")) == {path.stem for path in (PLUGINS / "action").glob("*.py")}


def test_lookups():
    assert {path.stem for path in (PLUGINS / "lookup").glob("*.py")} == outside.LOOKUPS | outside.UNTRIED_LOOKUPS


@pytest.mark.parametrize("name", sorted(outside.LOOKUPS))
def test_a_lookup_is_tried_once(name):
    assert name not in outside.UNTRIED_LOOKUPS
