# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the central databases of OVN on a host, signs certificates, and takes both away again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dataclass import replace
from ..errors import Conflict, InvalidValue, NebulaError
from ..host import node_file
from ..network.ovn import central, certificates, chassis, cluster, daemons, ovn_findings, paths
from ..network.ovn.central import Central, Wanted
from ..sync import Item, Result

KINDS = ("host", "central", "client")


def reconcile(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Bring this host to the state that is asked for, while no other run works on it."""
    act = not check_mode and params["state"] != "audited"
    params = {**params, "catalog": paths.catalog_uuid(params["catalog"], act and params["state"] != "absent")}
    with node_file.lock_host(act):
        return STATES[params["state"]](params, act)


def requested(params: Mapping[str, Any], act: bool) -> Result:
    side = Central(paths.read(params["directories"]), params["catalog"], act)
    found = side.observe()
    side.refuse_foreign(found)
    address = params["address"] or daemons.main_address(params["name"])
    request, made = certificates.request(params["root"], "central", params["name"], act)
    items = [Item("key", None, {"request": "made"})] if made else []
    installed = certificates.installed_fingerprints(params["root"], "central")
    payload = {
        "request": {"name": params["name"], "kind": "central", "request": request, "installed": installed},
        "member": {
            "name": params["name"],
            "address": address,
            "databases": {which: dict(vars(copy)) for which, copy in found.copies.items()},
            "rank": 0 if found.member else 1 if found.mark else 2,
        },
    }
    return Result(items, payload)


def signed(params: Mapping[str, Any], act: bool) -> Result:
    root, name = params["root"], params["name"]
    _refuse_former(params)
    request, made = certificates.request(root, "client", name, act)
    authority = certificates.Authority(root, params["catalog"], _check_days(params["certificate_days"]), act)
    asked = [
        certificates.CertificateRequest(each["name"], each["kind"], each["request"]) for each in params["requests"]
    ]
    client = certificates.CertificateRequest(name, "client", request)
    found = authority.certificates([*asked, client])
    if client.key in authority.refused:
        raise authority.refused[client.key]
    asked_well = [wanted for wanted in asked if wanted.key not in authority.refused]
    differing = certificates.install(root, "client", found[client.key], act)
    items = [Item("key of the client", None, {"request": "made"})] if made else []
    items += [Item(f"authority {which}", None, {"authority": "made"}) for which in authority.made]
    items += [Item(f"certificate {each}", None, {"certificate": "signed"}) for each in authority.signed]
    items += [Item(path, None, {"file": "written"}) for path in differing]
    payload = {
        "certificates": {wanted.key: found[wanted.key] for wanted in asked_well},
        "refused": {key: str(error) for key, error in authority.refused.items()},
        "client": {which: certificates.files(root, "client", which).as_dict() for which in certificates.WHICH},
        "outdated": [
            wanted.key
            for wanted, each in zip(asked, params["requests"])
            if wanted.key in found
            and each["installed"] is not None
            and each["installed"] != certificates.fingerprints(found[wanted.key])
        ],
    }
    return Result(items, payload, authority.warnings)


def foreseen(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Return the same for a look, which has to know what the hosts would do with these certificates, too."""
    result = reconcile(params, check_mode)
    outdated = result.payload.get("outdated", [])
    refused = [
        Item(message, None, {"certificate": "refused"}) for message in result.payload.get("refused", {}).values()
    ]
    written = [Item(f"certificate {key} on its host", None, {"file": "written"}) for key in outdated]
    return Result([*result.items, *refused, *written], result.payload, result.warnings)


def _refuse_former(params: Mapping[str, Any]) -> None:
    """Raise Conflict if this host, the front-end, still has the databases that others are to have from now on."""
    others = [each["name"] for each in params["requests"] if each["kind"] == "central"]
    if not others or params["name"] in others:
        return
    side = Central(paths.read(params["directories"]), params["catalog"], False)
    if side.observe().mark == params["catalog"]:
        raise Conflict(
            f"OVN's databases on {', '.join(others)}",
            f"the front-end {params['name']} has those of this catalog, which would be left behind",
            "Name the front-end as one of three in group nebula_ovn_central, so that the others take over what it has; "
            "or take OVN back first",
        )


def present(params: Mapping[str, Any], act: bool) -> Result:
    root = params["root"]
    side = Central(paths.read(params["directories"]), params["catalog"], act, root)
    wanted = _wanted(params)
    found = side.observe()
    side.refuse_foreign(found)
    cluster.refuse(found.copies, wanted.cluster, found.mark == params["catalog"])
    differing = certificates.install(root, "central", params["certificates"], act)
    items = [Item(path, None, {"file": "written"}) for path in differing]
    items.append(_item(side.ensure(replace(wanted, renewed=bool(differing)))))
    majority = wanted.cluster is None or not act or side.observe().led
    return Result(items, {"connections": central.connections(wanted), "majority": majority})


def registered(params: Mapping[str, Any], act: bool) -> Result:
    """Have hosts take the place of chassis with their address and a former name; remove those of forgotten hosts."""
    found_places = paths.read(params["directories"])
    side = Central(found_places, params["catalog"], act)
    found = side.observe()
    side.refuse_foreign(found)
    if not found.running:
        return Result([], {"kept": {}})
    asked = {str(host): str(address or "") for host, address in params["unregistered"].items()}
    former, kept = chassis.sort_out(found_places, params["hosts"], asked, act, params["forgotten"])
    if former and act:
        chassis.remove(found_places, former)
    items = [Item(f"chassis {each.name}", {"address": each.address}, None) for each in former]
    return Result(
        items, {"kept": {each.host or each.name: f"chassis {each.name} stays, as {each.why}" for each in kept}}
    )


def audited(params: Mapping[str, Any], act: bool) -> Result:
    """Return what state present would change, and what there is."""
    name, side = params["name"], Central(paths.read(params["directories"]), params["catalog"], act, params["root"])
    found = side.observe()
    part = {"host": name, "part": "central", "state": found.state, "address": params["address"] or ""}
    try:
        wanted = _wanted(params)
        change = side.ensure(wanted)
    except NebulaError as error:
        return Result([], {"part": part, "consistency": ovn_findings.of_error(name, error)})
    consistency = ovn_findings.of_change(name, "OVN's databases and northd", change)
    if not consistency and found.member and not found.led:
        which = next(which for which, status in found.status.items() if not status.led)
        consistency = ovn_findings.of_error(name, cluster.no_leader_error(which, found.status[which]))
    part["address"] = wanted.connection("southbound")
    if params["hosts"] and found.running:
        gone = chassis.chassis_without_host(paths.read(params["directories"]), params["hosts"])
        consistency = [*consistency, *(ovn_findings.of_unknown_chassis(each.name, each.address) for each in gone)]
    return Result([], {"part": part, "connections": central.connections(wanted), "consistency": consistency})


def _wanted(params: Mapping[str, Any]) -> Wanted:
    central.check_ports(params["ports"], params["cluster_ports"] if params["cluster"] else None)
    files = {which: certificates.files(params["root"], "central", which) for which in certificates.WHICH}
    group = cluster.read(params["name"], params["cluster"], params["cluster_ports"], files)
    return Wanted(
        catalog=params["catalog"],
        address=params["address"] or ("" if group else daemons.main_address(params["name"])),
        ports=params["ports"],
        files=files,
        cluster=group,
    )


def absent(params: Mapping[str, Any], act: bool) -> Result:
    side = Central(paths.read(params["directories"]), params["catalog"], act, params["root"])
    items = []
    if daemons.is_installed("central"):
        gone = side.remove()
        items += [_item(gone)] if gone else []
    for kind in ("central", "client", certificates.AUTHORITY):
        files = certificates.remove(params["root"], kind, act)
        items += [Item(kind, {"files": files}, None)] if files else []
    return Result(items, {})


def _item(change: paths.Change) -> Item:
    return Item(change.name, change.before, change.after)


def _check_days(days: int) -> int:
    if not 1 <= days <= certificates.AUTHORITY_DAYS:
        raise InvalidValue(
            f"certificate_days: {days}",
            f"a certificate lives from 1 to {certificates.AUTHORITY_DAYS} days, as long as its authority",
            "Give a number of that range",
        )
    return days


STATES = {
    "requested": requested,
    "signed": signed,
    "present": present,
    "registered": registered,
    "absent": absent,
    "audited": audited,
}
