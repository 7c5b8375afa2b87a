# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests have in common."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def same_umask():
    """Modules close the files they make by the umask of their process; here that process is everybody's."""
    before = os.umask(0o022)
    yield
    os.umask(before)
