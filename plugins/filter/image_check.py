# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has the filters of role image_check, as one flow; each is documented in the file of its name.

image_trials and image_unasked part the list into images that get a machine and images that get none; image_snapshots,
image_heard and image_said follow these machines; image_checks gives the list to the module, and image_points shows its
results."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.answers import consoles
from ansible_collections.nebula.provision.plugins.plugin_utils.no_templates import Filters, returns_no_templates

PREFIX = "image-check-"
TEMPLATE = "nebula-image-check"
# MiB that the root disk is larger than the image.
MORE = 1024
SECOND = 67
# Nobody has its other half: it is 32 bytes of a random source, which was not kept.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID3fg9UjGHci5Q7LoBzSLy9q8KVn5ridzQqLmy4j/6BQ nebula-image-check"
OF_CLOUD_INIT = ("configdrive", "nocloud")
INJECTED = "told by a live check"
PERSISTENT = "it is persistent, and a machine would write to it"


def image_trials(items: list[Any], images: list[dict[str, Any]], script: str) -> list[dict[str, Any]]:
    """Return the machines. A persistent image gets none: what the guest writes would stay in it."""
    known = {image["name"]: image for image in images if not image.get("persistent")}
    return [_machine(item, known[item["name"]], script) for item in items if _can_be(item, known)]


def _can_be(item: Any, known: Mapping[str, Any]) -> bool:
    # What asks is a shell script.
    return isinstance(item, Mapping) and item.get("name") in known and item.get("os") != "windows"


def _machine(item: Mapping[str, Any], image: Mapping[str, Any], script: str) -> dict[str, Any]:
    name = PREFIX + image["name"]
    disk = {"DEV_PREFIX": "vd", **(item.get("disk") or {}), "IMAGE": image["name"]}
    # Nobody here has the key of an encrypted one: it can neither be made larger nor written into.
    if not image.get("luks_secret"):
        disk["SIZE"] = image["size"] + MORE
    context = {
        "SET_HOSTNAME": name,
        "SSH_PUBLIC_KEY": KEY,
        "NETWORK": "YES",
        "START_SCRIPT": script,
    }
    if item.get("context_format") not in OF_CLOUD_INIT:
        # What cloud-init takes for it; in its own formats it has the script itself, which would run twice.
        context["USER_DATA"] = base64.b64encode(script.encode()).decode()
        context["USER_DATA_ENCODING"] = "base64"
    machine = {
        "name": name,
        "template": item.get("template") or TEMPLATE,
        "disks": [disk, {"TYPE": "fs", "FS": "ext4", "FORMAT": "raw", "SIZE": SECOND, "DEV_PREFIX": "vd"}],
        "context": {**context, **(item.get("context") or {})},
        "recreate": True,
    }
    if item.get("context_format"):
        machine["context_format"] = item["context_format"]
    if not image.get("luks_secret"):
        machine["inject"] = [{"path": "/etc/nebula-check", "content": INJECTED + "\n"}]
    return machine


def image_snapshots(trials: list[dict[str, Any]], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the machines that run, with a snapshot of their first disk."""
    running = {record["name"] for record in records if record.get("state") == "RUNNING"}
    return [{**trial, "disk_snapshots": [{"name": "check", "disk": 0}]} for trial in trials if trial["name"] in running]


def image_unasked(items: list[Any], images: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for each image that gets no machine why it gets none."""
    known = {image["name"]: image for image in images if image.get("persistent")}
    return {known[item["name"]]["name"]: {"why_not": PERSISTENT} for item in items if _can_be(item, known)}


def image_said(
    trials: list[dict[str, Any]], images: list[dict[str, Any]], records: list[dict[str, Any]], heard: Mapping[str, str]
) -> dict[str, Any]:
    """Return for each image what nebula_image_check needs to know of its machine."""
    known = {PREFIX + image["name"]: image for image in images}
    machines = {record["name"]: record for record in records}
    reports = {}
    for trial in trials:
        image, machine = known[trial["name"]], machines.get(trial["name"]) or {}
        reports[image["name"]] = {
            "console": heard.get(trial["name"], ""),
            "host_name": trial["context"].get("SET_HOSTNAME", ""),
            "root_mib": trial["disks"][0].get("SIZE", 0),
            "image_mib": image["size"],
            "injected": INJECTED if trial.get("inject") else "",
            "snapshot": _snapshot(machine),
        }
    return reports


def image_heard(results: list[Any], hosts: list[str], records: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return what machines wrote to their consoles, as their hosts report it, and by host why a report was refused."""
    heard: dict[str, str] = {}
    refused: dict[str, str] = {}
    for host, result in zip(hosts, results):
        own = {record["name"] for record in records if record.get("host") == host}
        try:
            heard.update(consoles.read(host, result, own))
        except InvalidValue as error:
            refused[host] = str(error)
    return {"consoles": heard, "refused": refused}


def _snapshot(machine: Mapping[str, Any]) -> str:
    if not machine:
        return ""
    names = [each.get("name") for disk in machine.get("disks") or [] for each in disk.get("snapshots") or []]
    if machine.get("state") != "RUNNING":
        return f"the machine is {machine.get('state')} afterwards" if names else ""
    return "ok" if "check" in names else str(machine.get("error") or "none was made")


def image_checks(items: list[Any]) -> list[Any]:
    """Return the items as the module takes them, without the keys that are for machines."""
    own = ("template", "disk", "context", "context_format")
    return [
        {key: value for key, value in item.items() if key not in own} if isinstance(item, Mapping) else item
        for item in items
    ]


def image_points(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each point of each image."""
    rows = []
    for image in images:
        label = image.get("name") or image.get("path")
        if image.get("error"):
            rows.append({"image": label, "point": "-", "result": "not read", "why": image["error"], "remedy": ""})
        rows += [{"image": label, **point} for point in image.get("points") or []]
    return rows


FILTERS = (image_trials, image_unasked, image_snapshots, image_heard, image_said, image_checks, image_points)


class FilterModule:
    def filters(self) -> Filters:
        return {each.__name__: returns_no_templates(each) for each in FILTERS}
