# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several files have in common. Functions in a world take paths as strings, as JSON has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.tests.integration.guests import agent as agent_guest
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.image_runs import disk, site, sshd
from ansible_collections.nebula.provision.tests.integration.sent_site import IMAGE

__all__ = ["agent", "disk", "image", "programs", "site", "sshd", "written_image"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def image() -> str:
    """Return the path of the demo image, which is built outside of a world: that reaches no package mirror."""
    return str(demo.image())


@pytest.fixture
def agent() -> str:
    """Return the path of an image whose guest has an agent."""
    return str(agent_guest.image())


@pytest.fixture
def written_image(tmp_path: Path) -> str:
    """Return the path of an image whose guest writes to its disk and halts."""
    path = tmp_path / "image.raw"
    path.write_bytes(IMAGE)
    return str(path)


@pytest.fixture
def programs(request: pytest.FixtureRequest) -> str:
    """Return the directory of an ansible-core's programs, which are installed where they are not: the current one's,
    that of the oldest (`floor`), or that of the newest (`newest`)."""
    if request.param == "current":
        return str(Path(sys.executable).parent)
    newer = [str(ROOT / "tests/tools/newer_python.sh")]
    if request.param == "newest" and subprocess.run(newer, capture_output=True, check=False).returncode:
        pytest.skip("the newest ansible-core wants a newer Python than there is")
    subprocess.run(["make", "-s", "-C", str(ROOT), f"{request.param}-venv"], check=True)
    return str(ROOT / f".venv-{request.param}/bin")
