# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads NIC_ALIAS: which further addresses a machine asks for on its NICs, and those that it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...dataclass import dataclass, replace
from ...errors import InvalidValue
from .. import flags, security_group
from ..network import FILTERS, Network
from ..network_drivers import OVN, OVSWITCH
from ..nic import Alias, Nic
from ..template import Template
from ..uplink import VLAN_ID
from .nic_vectors import NicDemand, nic_demand
from .template_values import read_flag

NIC, ALIAS = "NIC", "NIC_ALIAS"
# Names that NICs and aliases have of themselves.
_OWN_NAME = re.compile(r"NIC[0-9]+(_ALIAS[0-9]+)?\Z")
# Attributes that become fields of the model.
_FIELDS = frozenset(("NETWORK", "NETWORK_ID", "NETWORK_UNAME", "NETWORK_UID", "NIC_ID", "PARENT", "PARENT_ID"))
_SAME = "Use the network of that NIC, or a NIC of its own"


@dataclass(frozen=True)
class AliasDemand:
    """Describes one NIC_ALIAS = [ … ].
    address: what it asks of its network.
    parent: the number of its NIC in the template."""

    address: NicDemand
    parent: int


def alias_demands(template: Template, where: str) -> tuple[AliasDemand, ...]:
    """Return what each alias asks for; raise InvalidValue for an alias that no machine of the template can have."""
    vectors = template.vectors(ALIAS)
    if not vectors:
        return ()
    names = _nic_names(template, where)
    found = []
    for index, vector in enumerate(vectors):
        here = f"{where}: {ALIAS} {index}"
        read_flag(vector, "EXTERNAL", here)
        parent = _parent_number(vector, names, [each.get("NAME", "") for each in vectors], here)
        found.append(AliasDemand(nic_demand(vector, here, ALIAS), parent))
    _refuse_same_address(template, found, where)
    return tuple(found)


def _nic_names(template: Template, where: str) -> list[str]:
    """Return the names by which aliases find NICs, in their order. Raise InvalidValue for one that is there twice."""
    names = [vector.get("NAME") or f"NIC{index}" for index, vector in enumerate(template.vectors(NIC))]
    places: dict[str, str] = {}
    for index, name in enumerate(names):
        place = f"{NIC} {index}"
        if _OWN_NAME.match(name) and name != f"NIC{index}":
            raise InvalidValue(
                f"{where}: {place}: NAME = {name}",
                "NICs without a NAME are called so by their numbers",
                "Choose another name, or leave it out",
            )
        _claim_name(places, name, place, where)
    for index, vector in enumerate(template.vectors(ALIAS)):
        if vector.get("NAME"):
            _claim_name(places, vector["NAME"], f"{ALIAS} {index}", where)
    return names


def _claim_name(places: dict[str, str], name: str, place: str, where: str) -> None:
    other = places.setdefault(name, place)
    if other != place:
        raise InvalidValue(f"{where}: {place}: NAME = {name}", f"{other} has that name", "Give each its own")


def _parent_number(vector: Mapping[str, str], names: Sequence[str], aliases: Sequence[str], where: str) -> int:
    """Return the number of the NIC that PARENT names; the machine's only NIC where it is left out."""
    wanted = vector.get("PARENT", "")
    there = f"its NICs are {', '.join(names)}" if names else "it has no NIC"
    if not wanted:
        if len(names) == 1:
            return 0
        raise InvalidValue(where, f"it names no PARENT, and {there}", "Name the NIC that is to have the address")
    if wanted in names:
        return names.index(wanted)
    asked = f"{where}: PARENT = {wanted}"
    if wanted in aliases or ("_ALIAS" in wanted and _OWN_NAME.match(wanted)):
        raise InvalidValue(asked, f"that is an alias itself; {there}", "Name a NIC")
    raise InvalidValue(asked, f"no NIC has that name: {there}", "Name one of these, or give the NIC that NAME")


def _refuse_same_address(template: Template, aliases: Sequence[AliasDemand], where: str) -> None:
    nics = [nic_demand(vector, f"{where}: {NIC} {index}") for index, vector in enumerate(template.vectors(NIC))]
    asked: dict[tuple[object, str], str] = {}
    places = [f"{NIC} {index}" for index in range(len(nics))] + [f"{ALIAS} {index}" for index in range(len(aliases))]
    for place, demand in zip(places, (*nics, *(each.address for each in aliases))):
        for text in filter(None, (demand.ip, demand.ip6)):
            other = asked.setdefault((demand.network, text), place)
            if other != place and place.startswith(ALIAS):
                raise InvalidValue(
                    f"{where}: {place}: {text} in network {demand.network}",
                    f"{other} asks for it too",
                    "Ask for another, or for none",
                )


def aliases_of(leased: Sequence[Alias], template: Template, nics: Sequence[Nic], where: str) -> tuple[Alias, ...]:
    """Return the aliases of a machine: their leases, in the template's order, with what it says of them besides."""
    counts: dict[int, int] = {}
    found = []
    demands = alias_demands(template, where)
    for index, (alias, vector, demand) in enumerate(zip(leased, template.vectors(ALIAS), demands)):
        nic = nics[demand.parent]
        number = counts[nic.nic_id] = counts.get(nic.nic_id, -1) + 1
        refuse_other_segment(alias, nic, f"{where}: {ALIAS} {index}")
        found.append(
            replace(
                alias,
                parent_id=nic.nic_id,
                alias_id=number,
                external=read_flag(vector, "EXTERNAL", where),
                options={key: value for key, value in vector.items() if key not in _FIELDS},
            )
        )
    return tuple(found)


def refuse_other_segment(alias: Alias, nic: Nic, where: str) -> None:
    """Raise InvalidValue for an alias in a network whose frames do not pass the NIC, or that the NIC's filter bars."""
    rules = nic.options.get("FILTER", "") or nic.network_values.get("FILTER", "")
    if rules:
        raise InvalidValue(
            where,
            f"its NIC {nic.nic_id} has FILTER = {rules}, libvirt's rules for the one address of the NIC",
            "Leave FILTER out, and set filter_ip_spoofing of the network",
        )
    if alias.network_id == nic.network_id:
        return
    asked = f"{where}: network {alias.network} on NIC {nic.nic_id}, which is in network {nic.network}"
    of, other = (each.network_values.get("VN_MAD", "") for each in (alias, nic))
    if OVN in (of, other):
        raise InvalidValue(asked, "networks of OVN have nothing in common that would carry the alias's frames", _SAME)
    if of != other:
        raise InvalidValue(asked, "only one of the two is of Open vSwitch (vn_mad ovswitch)", _SAME)
    if alias.bridge != nic.bridge:
        raise InvalidValue(asked, f"they are on bridges {alias.bridge} and {nic.bridge}", _SAME)
    if of == OVSWITCH:
        one, two = (each.network_values.get(VLAN_ID, "") or "none" for each in (alias, nic))
        if one != two:
            raise InvalidValue(asked, f"on bridge {nic.bridge} they have the VLANs {one} and {two}", _SAME)


def refuse_other_filters(alias: Alias, network: Network, parents: Network) -> None:
    """Raise InvalidValue for an alias whose own network filters otherwise than that of its NIC, whose rules count.
    network: the alias's network.
    parents: the NIC's network."""
    for name in (*FILTERS, security_group.ATTRIBUTE):
        given, counts = network.attributes.get(name, ""), parents.attributes.get(name, "")
        if given.strip().upper() not in flags.FALSE and given.strip().upper() != counts.strip().upper():
            raise InvalidValue(
                f"{ALIAS} {alias.nic_id} in network {network.name}: {name} = {given}",
                f"its NIC {alias.parent_id} is in network {parents.name}, which says {counts or 'nothing'}, and the "
                "rules of the NIC count for the alias",
                "Have both networks say the same, or use a NIC of its own",
            )


def doubts_of_aliases(aliases: Sequence[Alias]) -> list[str]:
    """Return warnings about aliases that nothing here brings to life."""
    return [
        f"NIC_ALIAS/EXTERNAL: {alias.ip or alias.ip6 or alias.mac} of network {alias.network} is leased, and neither "
        "the guest nor a router here has it: nebula_routers have floating addresses"
        for alias in aliases
        if alias.external
    ]
