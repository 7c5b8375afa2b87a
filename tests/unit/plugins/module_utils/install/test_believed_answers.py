# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is believed of the machines that the catalog has on it. Where it tells of another host's, nothing of it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.install.believed_answers import (
    answer_under,
    refuse_foreign,
)
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import Settings, Work
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.installations import Waited
from ansible_collections.nebula.provision.plugins.module_utils.model.answers.verified_guests import Verified


def works() -> list[Work]:
    machine = cast("Any", SimpleNamespace)
    one = Work("one", record=machine(id=1, host="node1"), trial=machine(id=11, host="node2"))
    return [one, Work("two", record=machine(id=2, host="node2")), Work("none")]


def test_its_own_machines():
    settings = Settings(
        waited={"node1": [Waited("one", 1, True)], "node2": [Waited("two", 2, True)]},
        verified={"node2": [Verified("verify-one", 11, True)]},
    )
    refuse_foreign(works(), settings)
    assert settings.refused == {}
    assert [answer_under(settings.waited, name) is not None for name in ("one", "two", "three")] == [True, True, False]
    assert answer_under(settings.verified, "verify-one") == Verified("verify-one", 11, True)


@pytest.mark.parametrize("own", [[], [Waited("two", 2, True)]])
def test_another_hosts_machine(own):
    settings = Settings(waited={"node1": [Waited("one", 1)], "node2": [*own, Waited("one", 1, True)]})
    refuse_foreign(works(), settings)
    assert [*settings.refused] == ["node2"] and "one, whose machine is on host node1" in settings.refused["node2"]
    assert settings.waited == {"node1": [Waited("one", 1)]}


def test_another_hosts_trial():
    settings = Settings(verified={"node1": [Verified("verify-one", 11, True)]})
    refuse_foreign(works(), settings)
    assert settings.verified == {} and "verify-one" in settings.refused["node1"]


def test_what_the_catalog_has_no_machine_of_and_what_no_host_is_named_for():
    settings = Settings(waited={"node1": [Waited("none", 7)], "": [Waited("one", 1)]})
    refuse_foreign(works(), settings)
    assert settings.refused == {} and answer_under(settings.waited, "one") is not None
