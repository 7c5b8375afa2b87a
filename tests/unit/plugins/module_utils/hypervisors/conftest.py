# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node whose machines a driver in memory has."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_node import Node


@pytest.fixture
def here(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def root(here: Node) -> str:
    return str(here.root)
