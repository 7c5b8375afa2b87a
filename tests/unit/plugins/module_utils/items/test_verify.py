# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host.console import Wanted
from ansible_collections.nebula.provision.plugins.module_utils.items.verify import machines_of

RECORD = {
    "id": 0,
    "name": "web-0",
    "console": "/var/lib/nebula/datastores/0/0/console.log",
    "hostname": "web-0",
    "addresses": ["10.66.0.10"],
    "state": "RUNNING",
}


def machines(*items: Any, **options: Any) -> list[Wanted]:
    return machines_of(json.dumps(items), **options)


def test_a_record_is_a_machine() -> None:
    assert machines(RECORD) == [Wanted(0, "web-0", RECORD["console"], "web-0", ("10.66.0.10",))]  # type: ignore[arg-type]


def test_there_is_nothing_to_hear_from_a_machine_without_context() -> None:
    silent = dict(RECORD, addresses=None, hostname="")
    assert machines(silent) == []
    assert machines(silent, pattern="login:")[0].pattern == "login:"
    assert machines(silent, patterns={"web-0": "up"})[0].pattern == "up"
    assert machines(silent, patterns={"web-1": "up"}) == []
    assert machines(dict(RECORD, addresses=[])) != []


def test_a_predicted_machine_is_left_out() -> None:
    assert machines(dict(RECORD, id=None, console=""), RECORD, pattern="x") == machines(RECORD, pattern="x")


def test_a_pattern_of_its_own_goes_first() -> None:
    found = machines(RECORD, dict(RECORD, id=1, name="db"), pattern="all", patterns={"db": "own"})
    assert [machine.pattern for machine in found] == ["all", "own"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{}", "it is a dict"),
        ("nonsense", "not JSON"),
        ('["web-0"]', "it is a str"),
        ('[{"console": "/x", "name": "web"}]', "id or name"),
        ('[{"console": "/x", "id": "0", "name": "web"}]', "id or name"),
        ('[{"console": "/x", "id": 0, "name": "web", "addresses": "10.0.0.1"}]', "not a list"),
    ],
)
def test_what_can_not_be_meant_is_refused(text: str, found: str) -> None:
    with pytest.raises(InvalidValue, match=found):
        machines_of(text)


def test_a_pattern_is_text() -> None:
    with pytest.raises(InvalidValue, match="VM web: it is a int"):
        machines_of('[{"console": "/x", "id": 0, "name": "web"}]', patterns={"web": 5})
