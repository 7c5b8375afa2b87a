# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a host one of OVN's chassis, and takes that back."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from ..errors import InvalidValue, NebulaError, TimedOut
from ..host import node_file
from ..model.endpoint import split
from ..network.ovn import certificates, openvswitch_settings, ovn_findings, ovn_host_setup, paths
from ..network.ovn.openvswitch_settings import Wanted
from ..network.ovn.ovn_host_setup import Host
from ..sync import Item, Result


def reconcile(params: Mapping[str, Any], check_mode: bool) -> Result:
    """Bring this host to the state that is asked for, while no other run works on it."""
    act = not check_mode and params["state"] != "audited"
    params = {**params, "catalog": paths.catalog_uuid(params["catalog"], act and params["state"] != "absent")}
    with node_file.lock_host(act):
        return STATES[params["state"]](params, act)


def requested(params: Mapping[str, Any], act: bool) -> Result:
    node = _host(params, act)
    node.refuse_foreign(node.observe())
    request, made = certificates.request(params["root"], "host", params["name"], act)
    items = [Item("key", None, {"request": "made"})] if made else []
    installed = certificates.installed_fingerprints(params["root"], "host")
    asked = {"name": params["name"], "kind": "host", "request": request, "installed": installed}
    return Result(items, {"request": asked})


def present(params: Mapping[str, Any], act: bool) -> Result:
    node, wanted = _host(params, act), _wanted(params)
    differing = (
        [] if params["private_key"] else certificates.install(params["root"], "host", params["certificates"], act)
    )
    done = node.ensure(wanted, params["mtu"], params["restart"], differing)
    return Result(
        [*(Item(path, None, {"file": "written"}) for path in differing), *map(_item, done.items)],
        {
            "host": {
                "name": params["name"],
                "southbound": wanted.remote,
                "encap_type": wanted.encap_type,
                "encap_ip": done.encap_ip,
                "inner_mtu": done.inner_mtu,
                "integration_bridge": openvswitch_settings.INTEGRATION,
                "physical_networks": {each.network: each.bridge for each in wanted.mappings if each.network},
                "connected": done.connected,
                "held_by": done.held_by,
                "managed": done.managed,
            }
        },
        done.warnings,
    )


def audited(params: Mapping[str, Any], act: bool) -> Result:
    """Return what state present would change, and what there is."""
    name, asked = params["name"], "Open vSwitch and ovn-controller"
    part = {"host": name, "part": "node", "state": "not connected", "address": ""}
    try:
        wanted = _wanted(params)
        done = _host(params, act).ensure(wanted, params["mtu"], restart=False)
    except NebulaError as error:
        return Result([], {"part": part, "consistency": ovn_findings.of_error(name, error)})
    consistency = [each for change in done.items for each in ovn_findings.of_change(name, asked, change, done.held_by)]
    if not consistency and not done.connected:
        log = f"{paths.read(params['directories']).ovn_log}/ovn-controller.log"
        problem = TimedOut(f"ovn-controller towards {wanted.remote}", "it has no connection", f"See {log}")
        consistency = ovn_findings.of_error(name, problem)
    part.update(state="connected" if done.connected else "not connected", address=done.encap_ip)
    return Result([], {"part": part, "consistency": consistency})


def _wanted(params: Mapping[str, Any]) -> Wanted:
    root, remote = params["root"], params["southbound"]
    check_remote(remote)
    tls = None
    if params["private_key"]:
        tls = certificates.Files(params["private_key"], params["certificate"], params["ca_certificate"])
    elif remote.startswith("ssl:"):
        tls = certificates.files(root, "host", "southbound")
    return Wanted(
        name=params["name"],
        catalog=params["catalog"],
        remote=remote,
        encap_type=params["encap_type"],
        encap_ip=_one_form(params["encap_ip"]) or ovn_host_setup.encap_ip(remote),
        datapath=params["datapath"],
        mappings=openvswitch_settings.read_mappings(params["bridge_mappings"]),
        tls=tls,
    )


def _one_form(address: str | None) -> str:
    """Return an address as the kernel and OVN write it: one of IPv6 may be written in several ways.

    Text that is no address stays as it is, and no interface has it."""
    try:
        return str(ip_address((address or "").strip().strip("[]")))
    except ValueError:
        return address or ""


def absent(params: Mapping[str, Any], act: bool) -> Result:
    return Result([_item(change) for change in _host(params, act).remove()], {})


def _item(change: paths.Change) -> Item:
    return Item(change.name, change.before, change.after)


def check_remote(remote: str) -> None:
    for each in remote.split(","):
        protocol, _colon, place = each.partition(":")
        if protocol not in ("ssl", "tcp") or split(place) == ("", ""):
            raise InvalidValue(
                f"southbound {remote!r}",
                f"{each!r} is no connection of OVSDB",
                "Write it as ssl:192.0.2.1:6642 or ssl:[2001:db8::1]:6642, several by commas",
            )


def _host(params: Mapping[str, Any], act: bool) -> Host:
    return Host(params["root"], paths.read(params["directories"]), params["catalog"], params["name"], act)


STATES = {"requested": requested, "present": present, "absent": absent, "audited": audited}
