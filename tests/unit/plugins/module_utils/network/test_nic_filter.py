# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nftables is to carry out; tests/integration/test_node_filters.py sends frames through it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from stand_ins import Programs

from ansible_collections.nebula.provision.plugins.module_utils.errors import MissingDependency
from ansible_collections.nebula.provision.plugins.module_utils.model.nic_filter_rules import Guard, GuardRule
from ansible_collections.nebula.provision.plugins.module_utils.network import nic_filter

CATALOG = "5d2c7a0e-4b1f-4c56-9a3e-0f6f5b0b7c11"
WHERE = "bridge nebula_5d2c7a0e"
LIST = "--stateless --terse --numeric-protocol list ruleset bridge"
GUARD = Guard(3, 0, "one-3-0", "02:00:0a:42:00:0a", ("10.66.0.10",), True, True)
WEB = replace(GUARD, rules=(GuardRule("inbound", "TCP", ((80, 80),)),))


def table(*there: Guard, **values: object) -> nic_filter.Table:
    nics = {each.port: (each.vm_id, each.nic_id) for each in there}
    return nic_filter.Table(CATALOG, True, 1.0, nic_filter.desired_digests(there), nics, **values)


def test_nothing_is_done_where_nothing_differs() -> None:
    assert nic_filter.write_script([], nic_filter.Table(CATALOG), 1.0, ()) == ""
    assert (
        nic_filter.write_script([replace(GUARD, filter_mac=False, filter_ip=False)], nic_filter.Table(CATALOG), 1.0, ())
        == ""
    )
    assert nic_filter.write_script([GUARD], table(GUARD), 2.0, ()) == ""
    assert nic_filter.write_script([], table(GUARD), 2.0, ["one-3-0"]) == ""
    assert nic_filter.write_script([], table(GUARD), 2.0, ()) == f"delete table {WHERE}\n"


def test_what_was_decided_later_stays() -> None:
    assert not nic_filter.ensure([], table(GUARD), 0.5, ())


def test_all_hooks_lead_all_interfaces_to_their_chains_in_one_transaction() -> None:
    other = replace(WEB, vm_id=4, port="a-name-of-users")
    lines = nic_filter.write_script([other], table(GUARD), 2.0, ["one-3-0"]).splitlines()
    (out,) = [line for line in lines if f"add rule {WHERE} prerouting" in line]
    # Xen's other interface of the NIC, where its name is not too long for one.
    assert '"one-3-0" : goto out_3_0, "one-3-0-emu" : goto out_3_0, "a-name-of-users" : goto out_4_0 }' in out
    assert lines.index(f"flush chain {WHERE} prerouting") < lines.index(out)
    # What stays is not written anew.
    assert not any(line.startswith(f"add rule {WHERE} out_3_0") for line in lines)


def test_what_a_rule_let_through_that_is_gone_is_forgotten_and_nothing_else() -> None:
    more = replace(WEB, rules=(*(WEB.rules or ()), GuardRule("inbound", "TCP", ((443, 443),))))
    sets = {f"{kind}4_{way}_3_0" for kind in ("ports", "plain") for way in ("in", "out")}

    def comments(guard: Guard) -> set[str]:
        text = nic_filter.write_script([guard], nic_filter.Table(CATALOG), 1.0, ())
        return {line.split('"')[-2] for line in text.splitlines() if " passing_in_" in line and '"rule:' in line}

    opened = nic_filter.write_script([more], table(WEB, sets=sets, through={"in_3_0": comments(WEB)}), 2.0, ())
    assert "flush set" not in opened
    closed = nic_filter.write_script([WEB], table(more, sets=sets, through={"in_3_0": comments(more)}), 2.0, ())
    flushed = sorted(line.split()[-1] for line in closed.splitlines() if line.startswith("flush set"))
    assert flushed == ["plain4_out_3_0", "ports4_out_3_0"]
    # So is what was let through while rules were missing.
    broken = table(WEB, sets=sets, through={"in_3_0": {*comments(WEB), ""}})
    broken.ports["one-3-0"] = ""
    assert nic_filter.write_script([WEB], broken, 2.0, ()).count("flush set") == 2


def test_no_set_has_its_memory_before_its_entries() -> None:
    lines = nic_filter.write_script([WEB], nic_filter.Table(CATALOG), 1.0, ()).splitlines()
    made = [line for line in lines if line.startswith("add set")]
    assert len(made) == 8
    assert not any(" size " in line for line in made)


def test_what_nftables_says_of_the_size_is_not_kept_for_the_boot(programs: Programs) -> None:
    listed = (
        "table bridge nebula_5d2c7a0e {\n\tset s {\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic\n\t}\n}\n"
    )
    programs.answer(
        "nft", LIST, "table bridge others {\n\tset t {\n\t\tsize 1\n\t}\n}\n" + listed + "table bridge x {\n}\n"
    )
    assert nic_filter.at_boot(CATALOG) == listed.replace("\t\tsize 65535\n", "")
    programs.answer("nft", LIST, listed.replace("5d2c7a0e", "5d2c7a0f"))
    assert nic_filter.at_boot(CATALOG) == "" and not nic_filter.observe(CATALOG).exists
    programs.answer("nft", LIST, f"table {WHERE} {{\n}}\n" + listed.replace("5d2c7a0e", "5d2c7a0f"))
    assert nic_filter.at_boot(CATALOG) == f"table {WHERE} {{\n}}\n"
    empty = nic_filter.observe(CATALOG)
    assert empty.exists and empty.sets == empty.chains == set()


def test_a_nic_without_many_addresses_needs_no_sets_without_names() -> None:
    own = replace(WEB, addresses=("10.66.0.10", "10.66.0.11", "2001:db8::10"))
    lines = nic_filter.write_script([own], nic_filter.Table(CATALOG), 1.0, ()).splitlines()
    # Where it goes on with a brace after its set, a rule puts something into a set that has a name.
    unnamed = [line for line in lines if f"{WHERE} out_3_0 " in line and re.search(r"(?<!_3_0) \{", line)]
    assert unnamed == []
    assert any("ip saddr != 10.66.0.10 ip saddr != 10.66.0.11 drop" in line for line in lines)
    many = replace(WEB, addresses=tuple(f"10.66.0.{number}" for number in range(10, 15)))
    text = nic_filter.write_script([many], nic_filter.Table(CATALOG), 1.0, ())
    assert "ip saddr != { 10.66.0.10, 10.66.0.11, 10.66.0.12, 10.66.0.13, 10.66.0.14 } drop" in text


def test_answers_of_dhcp_servers_are_known_by_the_port_of_clients_alone() -> None:
    lines = nic_filter.write_script([WEB], nic_filter.Table(CATALOG), 1.0, ()).splitlines()
    rules = {line.partition(f"add rule {WHERE} ")[2] for line in lines}
    assert {"servers udp dport 68 drop", "servers6 udp dport != 546 return", "servers6 drop"} <= rules
    assert not any(rule.startswith("servers") and "sport" in rule for rule in rules if "dport 67" not in rule)


def test_nics_with_the_same_rules_have_one_chain_for_them() -> None:
    other = replace(WEB, vm_id=4, port="one-4-0")
    lines = nic_filter.write_script([WEB, other], nic_filter.Table(CATALOG), 1.0, ()).splitlines()
    named = {line.split()[-1] for line in lines if line.startswith(f"add chain {WHERE} passing_")}
    assert (
        len(named) == 2
        and len([line for line in lines if "ether type ip meta l4proto tcp th dport 80 return" in line]) == 1
    )
    # With another rule it is another chain, whose name is in the rules of the NIC.
    more = replace(other, rules=(*(WEB.rules or ()), GuardRule("inbound", "TCP", ((443, 443),))))
    assert nic_filter.desired_digests([more]) != nic_filter.desired_digests([other])


def test_rules_are_read_as_nft_lists_them(programs: Programs) -> None:
    listed = f"""table {WHERE} {{
\tset ports4_in_3_0 {{
\t\ttype ipv4_addr
\t\tflags dynamic
\t}}

\tmap others {{
\t\ttype ipv4_addr : verdict
\t}}

\tchain nebula {{
\t\tcounter comment "nebula:{CATALOG}:7.500"
\t}}

\tchain in_3_0 {{
\t\tjump firewall_00000000000a
\t\tjump passing_in_00000000000b
\t\tgoto end_in
\t}}

\tchain out_3_0 {{
\t\tcounter comment "nebula/3/0/one-3-0/0123456789ab/9"
\t\tip saddr != {{ 10.66.0.10, 10.66.0.11,
\t\t\t     10.66.0.12 }} drop
\t}}

\tchain firewall_00000000000a {{
\t\tdrop
\t}}

\tchain passing_in_00000000000b {{
\t\tip saddr 10.0.0.1 return comment "rule:aaa"
\t\tdrop
\t}}

\tchain prerouting {{
\t\ttype filter hook prerouting priority filter; policy accept;
\t\tiifname vmap {{ "one-3-0" : goto out_3_0, "one-3-0-emu" : goto out_3_0,
\t\t\t     "one-4-0" : goto out_4_0 }}
\t}}
}}
"""
    programs.answer("nft", LIST, listed)
    found = nic_filter.observe(CATALOG)
    assert (found.exists, found.as_of, found.nics) == (True, 7.5, {"one-3-0": (3, 0)})
    assert found.sets == {"ports4_in_3_0"} and "firewall_00000000000a" in found.chains
    assert found.letting == {"in_3_0": {"firewall_00000000000a", "passing_in_00000000000b"}}
    # Those of the shared chains and of a hook are missing, and a rule of its own: it is one of eight.
    assert found.ports == {"one-3-0": ""}
    assert found.through["in_3_0"] == {"rule:aaa firewall_00000000000a", ""}
    programs.answer("nft", LIST, listed.replace("ab/9", "ab/8"))
    assert nic_filter.observe(CATALOG).through["in_3_0"] == {"rule:aaa firewall_00000000000a"}
    # Without its own mark nothing is known of how many it had.
    programs.answer("nft", LIST, listed.replace("nebula/3/0", "else/3/0"))
    assert "" in nic_filter.observe(CATALOG).through["in_3_0"]


def test_link_local_addresses_follow_from_mac_addresses() -> None:
    assert nic_filter.link_local("02:00:0a:42:00:0a") == "fe80::aff:fe42:a"


def test_a_host_without_nftables_has_no_table_and_can_not_do_without_where_one_is_needed(programs: Programs) -> None:
    assert not nic_filter.read_table(CATALOG, needed=False).exists
    assert nic_filter.at_boot(CATALOG) == ""
    with pytest.raises(MissingDependency, match="filter_mac_spoofing: false"):
        nic_filter.read_table(CATALOG, needed=True)
