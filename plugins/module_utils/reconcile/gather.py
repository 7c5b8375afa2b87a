# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what nebula_info returns, by name."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ..engines.base import Engine
from ..engines.ports import VmRecord
from ..engines.registry import open_engine
from ..model.audit_finding import Finding
from ..model.object_ids import id_of
from ..model.plan import Observed
from ..model.states import HostState
from ..model.template import Template
from ..storage import datastore_audit
from ..sync import Result
from .audit_findings import by_severity, compare, doubts, finding_view
from .datastores import datastore_view
from .host_identity import without_second_names
from .hosts import host_view
from .images.image_view import image_view
from .network_views import group_view, network_view, router_view
from .template_view import redacted, template_view
from .vms.nodes_answers import polls_of, refused_answers
from .vms.vm_results import open_consoles, vm_view, warnings_of_given_up

Gatherer = Callable[[Engine, Mapping[str, Any]], Any]


def _machines(engine: Engine, params: Mapping[str, Any]) -> list[VmRecord]:
    return engine.vms.pool(names=params.get("vms"), done=bool(params.get("done")))


def _leases(engine: Engine, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "network": nic["network"],
            "ip": nic["ip"],
            "ip6": nic["ip6"],
            "mac": nic["mac"],
            "vm_id": record.id,
            "vm": record.name,
            "nic_id": nic["nic_id"],
            "held": "it is being ended" if record.wanted == "DONE" else "",
        }
        for record in _machines(engine, params)
        for nic in (*record.nics, *record.nic_aliases)
        if record.state != "DONE"
    ] + [
        # Addresses that nobody has, and that nobody gets.
        {
            "network": each.network,
            "ip": each.ip,
            "ip6": each.ip6,
            "mac": each.mac,
            "vm_id": each.vm_id,
            "vm": each.vm,
            "nic_id": None,
            "held": each.held,
        }
        for each in engine.networks.held()
        if params.get("vms") is None or each.vm in params["vms"]
    ]


def _networks(engine: Engine, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    held = Counter(each.network for each in engine.networks.held())
    return [{**network_view(network), "held": held[network.name]} for network in engine.networks.pool()]


def _routers(engine: Engine, _params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return routers with the names of their networks, and with the address at which each floating address ends."""
    names = {network.id: network.name for network in engine.networks.pool()}
    leased = {
        (record.name, nic["network"]): nic["ip"]
        for record in engine.vms.pool()
        for nic in record.nics
        if record.state != "DONE"
    }
    found = []
    for router in engine.routers.pool():
        view = router_view(router)
        inside = [each.network_id for each in router.interfaces]
        for each in (*view["interfaces"], *([view["gateway"]] if view["gateway"] else ())):
            each["network"] = names.get(each["network_id"], "")
        for each in view["floating"]:
            wanted = [names.get(n, "") for n in (inside if each["network_id"] is None else [each["network_id"]])]
            each["internal_ip"] = next((leased[each["vm"], n] for n in wanted if (each["vm"], n) in leased), "")
        outside = view["gateway"]["network"] if view["gateway"] else ""
        rows = [{"what": "interface", **each} for each in view["interfaces"]]
        rows += [{"what": "gateway", **view["gateway"]}] if view["gateway"] else []
        rows += [{"what": "floating", **each, "network": outside} for each in view["floating"]]
        shown = ("what", "network", "ip", "vm", "internal_ip")
        view["addresses"] = [{"router": router.name, **{key: row.get(key, "") for key in shown}} for row in rows]
        found.append(view)
    return found


def _history(engine: Engine, params: Mapping[str, Any]) -> dict[str, Any]:
    return {str(r.id): [dict(step) for step in engine.vms.history(id_of(r))] for r in _machines(engine, params)}


def _asked(params: Mapping[str, Any]) -> set[str] | None:
    """Return the names of the hosts that were asked in this run, None where no host was to be asked."""
    given = params.get("observed")
    return None if given is None else {node.host for node in polls_of(given)}


def _hosts(engine: Engine, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return hosts. As in OpenNebula, a host whose monitoring failed is in ERROR, with what it or the way to it said.
    DISABLED is set by an administrator, and stays."""
    silent = {node.host: node for node in polls_of(params.get("observed") or []) if not node.reached}
    asked = _asked(params)
    views = []
    for host in engine.hosts.pool():
        view = {**host_view(host), "error": ""}
        if host.name in silent:
            problem = " ".join(str(silent[host.name].facts.get("problem") or "").split())
            view["error"] = problem or "it did not answer"
            if host.state != HostState.DISABLED:
                view["state"] = HostState.ERROR.name
        elif asked is not None and host.name not in asked:
            view["error"] = "it was not asked in this run"
        views.append(view)
    return views


def _vms(engine: Engine, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return machines as nebula_vm shows them, with what their templates say; of a secret only that there is one. What
    is known of a machine whose host was not asked may be out of date."""
    asked = _asked(params)
    views = []
    for record in _machines(engine, params):
        view = {
            **vm_view(record, params["root"]),
            "labels": labels_of(record.request),
            "attributes": redacted(record.request) if record.request else {},
        }
        if asked is not None and record.host and record.host not in asked and record.state != "DONE":
            steps = engine.vms.history(id_of(record))
            view["state"] = "UNKNOWN"
            view["error"] = (
                f"host {record.host} was not asked in this run: it has left the inventory, or the run was limited to "
                f"others; {record.state} as of {_moment(steps[-1]['time']) if steps else 'its first run'}"
            )
        views.append(view)
    return views


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def labels_of(template: Template | None) -> list[str]:
    """Return the words of LABELS, which OpenNebula separates by commas, each once and in their order."""
    text = (template.get("LABELS") if template else "") or ""
    return [*dict.fromkeys(word.strip() for word in text.split(",") if word.strip())]


GATHERERS: dict[str, Gatherer] = {
    "hosts": _hosts,
    "datastores": lambda engine, params: [datastore_view(each, params["root"]) for each in engine.datastores.pool()],
    "images": lambda engine, params: [image_view(image) for image in engine.images.pool()],
    "networks": _networks,
    "security_groups": lambda engine, params: [group_view(group) for group in engine.security_groups.pool()],
    "routers": _routers,
    "leases": _leases,
    "templates": lambda engine, params: [template_view(stored) for stored in engine.templates.pool()],
    "vms": _vms,
    "history": _history,
}


def hosts_with_foreign(observed: Sequence[Observed], catalog: str) -> list[dict[str, Any]]:
    """Return the hosts that have something which does not belong to this catalog."""
    return [
        {"host": node.host, "catalog": node.catalog, "foreign_memory": node.foreign_memory}
        for node in observed
        if node.reached and (node.catalog not in ("", catalog) or node.foreign_memory > 0)
    ]


def consistency(
    engine: Engine, observed: Sequence[Observed], params: Mapping[str, Any], warnings: list[str] | None = None
) -> list[dict[str, Any]]:
    """Return how catalog, image datastore and nodes differ. warnings: gets what looks wrong and is not ours to mend."""
    ledger = engine.ledger()
    second: dict[str, str] = {}
    if not ledger.damaged:
        observed, second = without_second_names(engine, observed)
    unproved = [] if ledger.damaged else [each.host for each in observed if engine.hosts.names_a_plan_not_given(each)]
    found = [finding for finding in compare(ledger, observed, unproved) if finding.host not in second]
    found += [
        Finding("host-unknown", name, "this host", why, "Take one of both names out of the inventory")
        for name, why in second.items()
    ]
    if warnings is not None:
        warnings += doubts(ledger, observed)
    if not ledger.damaged and "stores_images" in engine.capabilities:
        found += datastore_audit.findings(ledger.images, params["root"], bool(params.get("deep")))
    return [finding_view(finding) for finding in by_severity(found)]


def gather(params: Mapping[str, Any]) -> Result:
    """Return what option `gather` names.

    The polls are recorded for this answer only and rolled back, so that reading changes nothing."""
    observed = polls_of(params["observed"] or [])
    refused = refused_answers(observed)
    payload: dict[str, Any] = {"refused_answers": refused}
    warnings = [*refused.values()]
    with contextlib.closing(open_engine(params, check_mode=True)) as engine:
        if "consistency" in params["gather"]:
            # The consistency is read before the polls are recorded: nothing else can be read of a damaged catalog.
            payload["consistency"] = consistency(engine, observed, params, warnings)
        if {*params["gather"]} - {"consistency"}:
            with engine.session():
                observed, _second = without_second_names(engine, observed)
                engine.vms.observe(observed)
                payload.update(
                    {what: GATHERERS[what](engine, params) for what in params["gather"] if what in GATHERERS}
                )
                if "vms" in params["gather"]:
                    warnings += open_consoles(engine, observed)
                    warnings += warnings_of_given_up(engine.vms.given_up(), ending=False, hosts=None)
        payload["catalog"] = engine.catalog() if engine.begun(params) else ""
    payload["foreign"] = hosts_with_foreign(observed, payload["catalog"])
    payload["as_of"] = min((each.as_of for each in observed if each.reached), default=0)
    return Result(payload=payload, warnings=warnings)
