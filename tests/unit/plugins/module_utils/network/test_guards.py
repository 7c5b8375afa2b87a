# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nftables is to carry out; tests/integration/test_node_filters.py sends frames through it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import MissingDependency
from ansible_collections.nebula.provision.plugins.module_utils.model.guard import Guard, GuardRule
from ansible_collections.nebula.provision.plugins.module_utils.network import guards

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
WHERE = "bridge nebula_5d2c7a0e"
GUARD = Guard(3, 0, "one-3-0", "02:00:0a:42:00:0a", ("10.66.0.10",), True, True)
WEB = replace(GUARD, rules=(GuardRule("inbound", "TCP", ((80, 80),)),))


def table(*there: Guard, **values: object) -> guards.Table:
    nics = {each.port: (each.vm_id, each.nic_id) for each in there}
    return guards.Table(CATALOG, True, 1.0, guards.expected(there), nics, **values)


def test_nothing_is_done_where_nothing_differs() -> None:
    assert guards.change([], guards.Table(CATALOG), 1.0, ()) == ""
    assert guards.change([replace(GUARD, filter_mac=False, filter_ip=False)], guards.Table(CATALOG), 1.0, ()) == ""
    assert guards.change([GUARD], table(GUARD), 2.0, ()) == ""
    assert guards.change([], table(GUARD), 2.0, ["one-3-0"]) == ""
    assert guards.change([], table(GUARD), 2.0, ()) == f"delete table {WHERE}\n"


def test_what_was_decided_later_stays() -> None:
    assert not guards.ensure([], table(GUARD), 0.5, ())


def test_all_hooks_lead_all_interfaces_to_their_chains_in_one_transaction() -> None:
    other = replace(WEB, vm_id=4, port="a-name-of-users")
    lines = guards.change([other], table(GUARD), 2.0, ["one-3-0"]).splitlines()
    (out,) = [line for line in lines if f"add rule {WHERE} prerouting" in line]
    # Xen's other interface of the NIC, where its name is not too long for one.
    assert '"one-3-0" : goto out_3_0, "one-3-0-emu" : goto out_3_0, "a-name-of-users" : goto out_4_0 }' in out
    assert lines.index(f"flush chain {WHERE} prerouting") < lines.index(out)
    # What stays is not written anew.
    assert not any(line.startswith(f"add rule {WHERE} out_3_0") for line in lines)


def test_what_a_rule_let_through_that_is_gone_is_forgotten_and_nothing_else() -> None:
    more = replace(WEB, rules=(*(WEB.rules or ()), GuardRule("inbound", "TCP", ((443, 443),))))
    sets = {f"{kind}{family}_{way}_3_0" for kind in ("ports", "plain") for family in (4, 6) for way in ("in", "out")}

    def comments(guard: Guard) -> set[str]:
        text = guards.change([guard], guards.Table(CATALOG), 1.0, ())
        return {line.split('"')[-2] for line in text.splitlines() if " in_3_0 " in line and '"rule:' in line}

    opened = guards.change([more], table(WEB, sets=sets, through={"in_3_0": comments(WEB)}), 2.0, ())
    assert "flush set" not in opened
    closed = guards.change([WEB], table(more, sets=sets, through={"in_3_0": comments(more)}), 2.0, ())
    flushed = sorted(line.split()[-1] for line in closed.splitlines() if line.startswith("flush set"))
    assert flushed == ["plain4_out_3_0", "plain6_out_3_0", "ports4_out_3_0", "ports6_out_3_0"]


def test_no_set_has_its_memory_before_its_entries() -> None:
    lines = guards.change([WEB], guards.Table(CATALOG), 1.0, ()).splitlines()
    made = [line for line in lines if line.startswith("add set")]
    assert len(made) == 12
    assert not any(" size " in line for line in made)


def test_what_nftables_says_of_the_size_is_not_kept_for_the_boot(programs: Programs) -> None:
    listed = (
        "table bridge nebula_5d2c7a0e {\n\tset s {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic\n\t}\n}\n"
    )
    programs.answer("nft", "--stateless --terse list table bridge nebula_5d2c7a0e", listed)
    assert guards.at_boot(CATALOG) == listed.replace("\t\tsize 65535\n", "")


def test_link_local_addresses_follow_from_mac_addresses() -> None:
    assert guards.link_local("02:00:0a:42:00:0a") == "fe80::aff:fe42:a"


def test_a_host_without_nftables_has_no_table_and_can_not_do_without_where_one_is_needed(programs: Programs) -> None:
    assert not guards.found(CATALOG, needed=False).exists
    assert guards.at_boot(CATALOG) == ""
    with pytest.raises(MissingDependency, match="filter_mac_spoofing: false"):
        guards.found(CATALOG, needed=True)
