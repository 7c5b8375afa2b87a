# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module with a hypervisor that says in which state machines are, and consoles that are files."""

from __future__ import annotations

import json

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, TimedOut
from ansible_collections.nebula.provision.plugins.modules import nebula_install_wait

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"


@pytest.fixture
def console(tmp_path):
    path = tmp_path / "console.log"
    path.write_text("Installing the base system\nnebula-install: finished\n")
    return path


@pytest.fixture
def module(options, tmp_path, console):
    def run(*installs, check=False, **given):
        given.setdefault("vms", [{"id": 3, "name": "m", "console": str(console), "directory": str(tmp_path)}])
        items = [{"name": "debian", "machine": "m", **item} for item in installs]
        return nebula_install_wait.call.run(
            options(nebula_install_wait, installs=items, catalog=CATALOG, **given), check
        )

    return run


def test_without_a_machine_here_no_hypervisor_is_asked(module, still):
    still.answers = False
    for installs, vms in (((), []), (({},), [{"name": "other"}]), (({},), [{"name": "m", "console": ""}])):
        result = module(*installs, vms=vms)
        assert (result.payload, result.changed, result.errors) == ({"waited": []}, False, [])


def test_one_that_its_guest_ended_is_at_its_end(module, still):
    still.states, still.ended = {3: "POWEROFF"}, "guest"
    for check in (True, False):
        result = module({"timeout": 60, "marker": True}, check=check)
        assert not result.errors and not result.changed
        (waited,) = result.payload["waited"]
        assert {key: waited[key] for key in ("name", "vm_id", "installed", "last_lines")} == {
            "name": "debian",
            "vm_id": 3,
            "installed": True,
            "last_lines": [],
        }
        json.dumps(result.payload)


def test_one_that_somebody_else_ended_fails_with_its_last_lines(module, still, console):
    still.states = {3: "POWEROFF"}
    result = module({"timeout": 60, "marker": True})
    (item,) = result.errors
    assert (item.name, item.is_changed) == ("debian", False)
    for part in ("install debian", f"Last lines of {console}", "Installing the base system"):
        assert part in str(item.error)
    assert result.payload["waited"][0]["installed"] is False
    assert result.payload["waited"][0]["last_lines"] == console.read_text().splitlines()


def test_in_check_mode_what_has_failed_is_warned_of(module, still):
    """The run that is foreseen may start that machine anew before it looks."""
    still.states = {3: "POWEROFF"}
    result = module({"timeout": 60, "marker": True}, check=True)
    assert result.errors == [] and result.payload["waited"][0]["installed"] is False
    (warning,) = result.warnings
    assert warning.startswith("In check mode this is no failure: install debian: ")


def test_check_mode_looks_once_and_does_not_call_it_late(module, still, console):
    still.states = {3: "RUNNING"}
    console.write_text("Installing the base system\n")
    result = module({"timeout": 3600}, check=True)
    assert result.errors == result.warnings == []
    assert result.payload["waited"][0]["installed"] is False
    (item,) = module({"timeout": 0}).errors
    assert isinstance(item.error, TimedOut)


def test_what_is_no_installation_is_refused_by_its_place(module, still):
    with pytest.raises(InvalidValue, match="option installs, item 1: it is no installation"):
        module({"timeout": 1}, {"end": "never"})
    with pytest.raises(InvalidValue, match="it is not a regular expression"):
        module({"end": "pattern", "pattern": "("})
