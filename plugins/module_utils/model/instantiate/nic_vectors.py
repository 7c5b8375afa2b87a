# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads NIC and NIC_DEFAULT: which network and addresses a machine asks for, and the NIC that it gets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...dataclass import dataclass, replace
from ...errors import InvalidValue
from .. import attributes, flags, guest_mtu, nic_filter_rules, security_group, vlan_trunks
from ..libvirt_values import is_address
from ..network import FILTERS
from ..network_drivers import OVN, OVSWITCH
from ..nic import Nic
from ..template import Template
from .template_values import Ref, read_whole

# Bytes of an interface's name in Linux (IFNAMSIZ, less the byte that ends it).
TARGET_LENGTH = 15
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# Attributes that become fields of the model; whatever else a NIC says is among its options.
_NIC_FIELDS = frozenset(
    ("NETWORK", "NETWORK_ID", "NETWORK_UNAME", "NETWORK_UID", "NIC_ID", "MODEL", "TARGET", "BRIDGE")
)


@dataclass(frozen=True)
class NicDemand:
    """Describes one NIC = [ … ].
    network: name, or id as an int.
    ip, ip6, mac: "" for any; mac in lower case."""

    network: Ref
    ip: str = ""
    ip6: str = ""
    mac: str = ""


def with_nic_defaults(template: Template, where: str = "template") -> Template:
    """Return the template without NIC_DEFAULT, and with what it says in each NIC that does not say it itself."""
    defaults = template.vectors("NIC_DEFAULT")
    if not defaults:
        return template
    if len(defaults) > 1:
        raise InvalidValue(f"{where}: NIC_DEFAULT", "it is there twice", "Put all that it says into one")
    attributes.refuse_attributes(template.only("NIC_DEFAULT"), where)
    nics = [{**defaults[0], **vector} for vector in template.vectors("NIC")]
    return template.without("NIC_DEFAULT").with_vectors("NIC", nics)


def check_nics(template: Template, where: str) -> None:
    """Raise InvalidValue for a NIC that no machine can have, whatever networks there are."""
    for index, vector in enumerate(template.vectors("NIC")):
        here = f"{where}: NIC {index}"
        nic_demand(vector, here)
        target = vector.get("TARGET", "")
        length = len(target.encode(errors="surrogatepass"))
        if length > TARGET_LENGTH or "/" in target or any(c.isspace() for c in target):
            raise InvalidValue(
                f"{here}: TARGET = {target}",
                f"Linux takes no interface name of {length} characters, or with / and blanks in it",
                f"Use at most {TARGET_LENGTH} characters of ASCII, or leave it out",
            )


def nic_demand(vector: Mapping[str, str], where: str, name: str = "NIC") -> NicDemand:
    """Return what a NIC or alias asks of the networks; raise InvalidValue, which names it by `where`, for a wrong one.
    name: the name of its vector."""
    network: Ref
    if vector.get("NETWORK_ID"):
        network = read_whole(
            vector["NETWORK_ID"], f"{where}: NETWORK_ID", "Give the network's id, or its name as NETWORK"
        )
    elif vector.get("NETWORK"):
        network = vector["NETWORK"]
    else:
        raise InvalidValue(where, "it names no NETWORK", f'Write {name} = [ NETWORK = "…" ]')
    for key, version in (("IP", 4), ("IP6", 6)):
        if vector.get(key) and not is_address(vector[key], version):
            raise InvalidValue(
                f"{where}: {key} = {vector[key]}",
                f"it is no IPv{version} address",
                "Correct it, or leave it out to get a free one",
            )
    mac = vector.get("MAC", "").lower()
    if mac and (not _MAC.fullmatch(mac) or int(mac[:2], 16) % 2):
        raise InvalidValue(
            f"{where}: MAC = {vector['MAC']}", "it is no address of one interface", "Write it as 02:00:0a:00:00:01"
        )
    return NicDemand(network, vector.get("IP", ""), vector.get("IP6", ""), mac)


def own_name(vm_id: int, nic_id: int) -> str:
    """Return what a NIC's interface on the node is called where TARGET does not say it."""
    return f"one-{vm_id}-{nic_id}"


def nic_of(nic: Nic, vector: Mapping[str, str], vm_id: int, boot_order: int) -> Nic:
    """Return the NIC of machine `vm_id`: the lease that the engine found, with what the template says of it besides."""
    return replace(
        nic,
        model=vector.get("MODEL", ""),
        target=vector.get("TARGET") or own_name(vm_id, nic.nic_id),
        boot_order=boot_order,
        options={key: value for key, value in vector.items() if key not in _NIC_FIELDS},
    )


def doubts_of_nics(nics: Sequence[Nic], filtered: Collection[int]) -> list[str]:
    """Return warnings about what a NIC asks for, in a network where nothing acts on it; raise InvalidValue for what
    can't be acted on. filtered: ids of the networks whose nodes act on filters, besides those of OVN."""
    doubts = []
    for nic in nics:
        doubts += guest_mtu.doubts_of_nic(nic)
        driver = nic.network_values.get("VN_MAD")
        if driver == OVSWITCH:
            _check_on_ovswitch(nic)
        elif nic.options.get(vlan_trunks.ATTRIBUTE):
            doubts.append(
                f"NIC/{vlan_trunks.ATTRIBUTE} is kept, and nothing acts on it: network {nic.network} has another "
                "vn_mad than ovswitch"
            )
        given = {name: nic.options.get(name, "").strip() for name in (security_group.ATTRIBUTE, *FILTERS)}
        if nic.network_id in filtered:
            nic_filter_rules.check_port(nic.target, f"NIC {nic.nic_id}")
        if driver == OVN or nic.network_id in filtered:
            security_group.read_group_ids(given[security_group.ATTRIBUTE], f"NIC {nic.nic_id}")
            for name in FILTERS:
                flags.flag(given[name] or "NO", f"NIC {nic.nic_id}: {name} =")
            continue
        why = (
            "is one of Open vSwitch. Use vn_mad ovn or bridge"
            if driver == OVSWITCH
            else "is older than filters on nodes. Set filter_mac_spoofing and filter_ip_spoofing of the network"
        )
        doubts += [
            f"NIC/{name} is kept, and nothing acts on it: network {nic.network} {why}"
            for name, text in given.items()
            if text.upper() not in flags.FALSE
        ]
    return list(dict.fromkeys(doubts))


def _check_on_ovswitch(nic: Nic) -> None:
    where = f"NIC {nic.nic_id}"
    vlan_trunks.read(nic.options.get(vlan_trunks.ATTRIBUTE, ""), f"{where}: {vlan_trunks.ATTRIBUTE} =")
    rules = nic.options.get("FILTER", "") or nic.network_values.get("FILTER", "")
    if rules:
        raise InvalidValue(
            f"{where}: FILTER = {rules}",
            f"network {nic.network} is one of Open vSwitch, on whose ports libvirt has no such rules",
            "Leave it out, or use a network of OVN, which has security groups",
        )
