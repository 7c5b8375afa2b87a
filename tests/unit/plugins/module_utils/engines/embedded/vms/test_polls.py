# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes reported in a run."""

from __future__ import annotations

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.vms.polls import Polls
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.plan import Observed


def test_what_nodes_say_is_kept_by_host():
    polls = Polls()
    polls.hear(Observed("a", foreign_memory=7, ports=(5900, 5901), foreign_ids=(3,), contents=("x",)))
    polls.hear(Observed("b", reached=False, foreign_ids=(4,)))
    assert polls.foreign_memory == {"a": 7, "b": 0}
    assert polls.taken_ports == {"a": {5900, 5901}, "b": set()}
    assert polls.unreached == {"b"}
    assert polls.foreign_ids == {3, 4}
    assert polls.contents == {"a": frozenset("x"), "b": frozenset()}


def test_bases_are_not_among_what_machines_wrote_to():
    polls = Polls()
    polls.hear(Observed("a", images=("own-u-1", "u-1", "u-0"), returns={"own-v-2": 10}))
    assert polls.written == {"a": frozenset(("own-u-1", "own-v-2"))}


def test_a_node_lacks_the_bridges_of_networks_that_are_to_have_one_of_their_own():
    networks = [Network(0, "a", "u-a"), Network(1, "b", "u-b"), Network(2, "c", "u-c", vn_mad="dummy", bridge="br0")]
    polls = Polls()
    polls.hear(Observed("all", networks=("u-a", "u-b")))
    polls.hear(Observed("one", networks=("u-a",)))
    polls.hear(Observed("none", networks=()))
    polls.hear(Observed("unknown"))
    polls.hear(Observed("silent", reached=False))
    assert polls.without_bridge(networks) == {"one": ["b"], "none": ["a", "b"]}
    assert polls.without_bridge(networks[2:]) == {}


def test_nodes_that_are_none_of_ovn_are_known_if_they_say_so():
    polls = Polls()
    for name, has_ovn in (("with", True), ("without", False), ("unknown", None)):
        polls.hear(Observed(name, has_ovn=has_ovn))
    polls.hear(Observed("silent", reached=False))
    assert polls.without_ovn == {"without"}
