# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests have in common: their umask, their marks, which of them may run beside which (pytest -n 3), and what
is left out where time runs out (NEBULA_DEADLINE). Which test runs when is in tiers.py."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ansible_collections.nebula.provision.tests import tiers

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

MACHINE = "machine"
# Minutes that one test may take on a slow machine, with what it sets up.
MINUTES, MINUTES_OF_LONG = 3, 8
# Each run of Ansible in a home of its own would pack all modules anew, which takes longer than most of what it does.
os.environ.setdefault("NEBULA_KEEP_PAYLOADS", str(tiers.ROOT / "build/payloads"))
DEADLINE = float(os.environ.get("NEBULA_DEADLINE") or "inf")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("NEBULA_COVERED"):
        import covered

        config.pluginmanager.register(covered, "covered")


def group(nodeid: str) -> str:
    """What runs in one process, one after another: those of ALONE, or a file's own."""
    return MACHINE if _name(nodeid) in tiers.ALONE else nodeid.split("::", maxsplit=1)[0]


def _name(nodeid: str) -> str:
    """What the tables call the file. Unit tests, some of which have the name of another, are in none."""
    path = Path(nodeid.split("::", maxsplit=1)[0])
    return "" if "unit" in path.parts else path.stem


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins at once, else the other processes wait at the end for one."""
    for item in items:
        for mark, files in tiers.NEEDS.items():
            if _name(item.nodeid) in files:
                item.add_marker(mark)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> tuple[int, int]:
    """What has the machine to itself, the longest, all others; each in the order of the tables."""
    name = _name(nodeid)
    if group(nodeid) == MACHINE:
        return 0, tiers.FIRST_ALONE.index(name) if name in tiers.FIRST_ALONE else len(tiers.FIRST_ALONE)
    return (1, tiers.LONGEST.index(name)) if name in tiers.LONGEST else (2, 0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("it needs root")
    # A run that is ended from outside says nothing of what it found.
    long = _name(item.nodeid) in {*tiers.ALONE, *tiers.LONGEST}
    if time.time() + 60 * (MINUTES_OF_LONG if long else MINUTES) > DEADLINE:
        pytest.skip("no time left for it before NEBULA_DEADLINE")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    # The groups in the order of their tests, not of their sizes.
    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture(autouse=True)
def same_umask():
    """Modules close the files they make by the umask of their process; here that process is everybody's."""
    before = os.umask(0o022)
    yield
    os.umask(before)
