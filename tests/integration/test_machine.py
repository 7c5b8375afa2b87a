# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are started, stopped, restarted and shown by name, without a list; the next run of the lists has its way."""

from __future__ import annotations

import re
from typing import Any

from in_world import in_bare_world

from ansible_collections.nebula.provision.tests.integration.site_runs import Case, recap, torn_down

RUNNING, POWEROFF, SUSPENDED = 3, 8, 5
MACHINES = [
    {"name": "web-%i", "count": 2, "template": "web"},
    {"name": "db", "template": "web", "state": "poweroff", "hard": True},
]


class Machines(Case):
    def does(self, vm: str, do: str, *arguments: str, ends: int = 0, **changes: Any) -> str:
        words = [word for name, value in (("vm", vm), ("do", do)) if value for word in ("-e", f"{name}={value}")]
        code, output = self.run("playbooks/machine.yml", *words, *arguments, **changes)
        assert (code != 0) == bool(ends), output
        return output

    def states(self) -> dict[str, int]:
        return {str(name): int(state) for name, state in self.rows("SELECT name, state FROM vms WHERE state != 6")}


@in_bare_world
def test_machines_by_name() -> None:
    with torn_down(Machines()) as site:
        site.variables["nebula_vms"] = MACHINES
        site.done()
        assert site.states() == {"web-0": RUNNING, "web-1": RUNNING, "db": POWEROFF}
        refused(site)

        foretold = site.does("web-0", "poweroff", "--check")
        assert site.states()["web-0"] == RUNNING
        output = site.does("web-0", "poweroff")
        assert recap(foretold)["changed"] > 0 and recap(output)["changed"] > 0
        assert site.states() == {"web-0": POWEROFF, "web-1": RUNNING, "db": POWEROFF}
        assert "The lists of the inventory say running of web-0" in " ".join(output.split())
        # What is in other lists is no news here.
        assert "in no list" not in output and "web-1" not in output
        assert recap(site.does("web-0", "poweroff"))["changed"] == 0

        output = site.does("web-*,db", "start")
        assert site.states() == dict.fromkeys(("web-0", "web-1", "db"), RUNNING)
        assert "The lists of the inventory say poweroff of db" in " ".join(output.split())
        assert "say running" not in output
        assert recap(site.does("web-1", "reset"))["changed"] > 0
        site.does("web-1", "suspend")
        assert site.states()["web-1"] == SUSPENDED

        output = site.does("web-0,web-1", "console")
        assert (
            re.search(r"Console of web-0 \(node1, RUNNING\)", output)
            and "Console of web-1 (node1, SUSPENDED)" in output
        )
        assert "virsh" in output and recap(output)["changed"] == 0

        shown(site)
        site.done()
        assert site.states() == {"web-0": RUNNING, "web-1": RUNNING, "db": POWEROFF}


def shown(site: Machines) -> None:
    """By the same names."""
    code, output = site.run("playbooks/status.yml", "-e", "vm=web-*")
    table = output[output.index("Virtual machines, as of") :]
    assert code == 0 and "web-1" in table and " db " not in table
    code, output = site.run("playbooks/status.yml", "-e", "vm=wbe-0")
    assert code != 0 and "Did you mean 'web-0'?" in output


def refused(site: Machines) -> None:
    before = site.states()
    for words, told in (
        (("web-7", "stop"), "vm web-7: the catalog has no machine of that name. Did you mean 'web-"),
        (("web-0,nobody*", "stop"), "vm nobody*: the catalog has no machine of that name. There are: "),
        (("", "stop"), "No machine is named"),
        (("web-0", "destroy"), "do destroy: there is no such word. Did you mean 'poweroff'? Known are start, stop"),
        (("web-0", "strat"), "Did you mean 'start'?"),
        (("web-0", ""), "Nothing is asked for: give -e do=WORD"),
    ):
        output = " ".join(site.does(*words, ends=1).split())
        assert told in output and "Nothing was changed" in output.replace(
            "No machine is named", "Nothing was changed"
        ), output
    others = '{"nebula_vms": [{"name": "db", "state": "absent"}]}'
    assert "would go over what is asked of web-0" in " ".join(site.does("web-0", "stop", "-e", others, ends=1).split())
    assert site.states() == before
