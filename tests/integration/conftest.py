# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several files have in common."""

import pytest

from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.image_runs import disk, site, sshd

__all__ = ["disk", "image", "site", "sshd"]


@pytest.fixture
def image() -> str:
    """Return the path of the demo image, for functions in a world, whose arguments are JSON."""
    return str(demo.image())
