# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says in what two templates differ, and what of it can be changed on a machine that is there."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Union

from ..dataclass import dataclass, replace
from . import context, defaults, device_matching
from .attributes import CONTAINER, NOTES, SILENT, SINGLES, VECTORS
from .device_matching import DEVICES, HOTPLUG, LIVE, POWEROFF, RECREATE, MachineDevice, Pairing
from .template import Template, Value, is_secret

# What becomes of a changed attribute: at once, when the machine is off, or only in what the catalog remembers.
CHANGEABLE = {
    "CPU": "live",
    "CONTEXT": "live",
    "CONTEXT_FORMAT": "live",
    "CONTEXT_DEVICE": "poweroff",
    # No interface of the node, but what its guest and the filters of its NIC are told.
    "NIC_ALIAS": "live",
    **dict.fromkeys(("VCPU", "MEMORY", "OS", "GRAPHICS", "INPUT", "FEATURES", "CPU_MODEL"), "poweroff"),
    **dict.fromkeys(("RAW", "TPM", "TOPOLOGY", "NUMA_NODE", "VIDEO", "IOMMU"), "poweroff"),
    **dict.fromkeys(("PCI", "MEMORY_ENCRYPTION", "MEMORY_TUNE_OFFSET"), "poweroff"),
    **dict.fromkeys(("HYPERV_OPTIONS", "HYPERV_TIMERS", "SPICE_OPTIONS"), "poweroff"),
    # It is for the next time that the disk is made.
    "INJECT_VIA": "catalog",
    **dict.fromkeys(NOTES, "catalog"),
    # What nothing acts on needs no other machine to change.
    **dict.fromkeys(SILENT, "catalog"),
    # What it says is in each NIC.
    "NIC_DEFAULT": "catalog",
    "EMULATOR": "poweroff",
    # Which some hypervisors do act on; to the others it is one of these.
    "CPULIMIT": "live",
    **dict.fromkeys((*CONTAINER, "LXC_SWAP"), "poweroff"),
    "DISKSPACE": "live",
    "DISKINODES": "live",
}

# Names of the machine itself, not of what it is made of.
_IGNORED = frozenset(("NAME", "TEMPLATE_ID", "ERROR", "LOCK", "DEPLOY_ID"))
_DEFAULTS = {"CPU": f"{defaults.CPU:g}", "CONTEXT_FORMAT": context.FORMATS[0], "CONTEXT_DEVICE": context.DEVICES[0]}
# Where letters' case says nothing; names of images and networks, paths, passwords and contexts are not among them.
_CASELESS = frozenset((
    "TYPE", "MODEL", "TPM", "BUS", "MAC", "TARGET", "DEV_PREFIX", "DRIVER", "FORMAT", "FS", "CACHE", "IO", "DISCARD",
    "ARCH", "MACHINE", "BOOT", "UUID", "SD_DISK_BUS", "KEYMAP", "LISTEN", "HYPERVISOR", "IP", "IP6",
    "CONTEXT_FORMAT", "CONTEXT_DEVICE", "LINK",
))  # fmt: skip
_WORDS = {"YES": "YES", "TRUE": "YES", "ON": "YES", "NO": "NO", "FALSE": "NO", "OFF": "NO"}
# In a context, and in files for the guest, each letter is the guest's.
_GUESTS = ("CONTEXT", "INJECT")

# Among what is changed on a running machine: disks that become larger, and memory and processors up to the most that
# the machine was started with.
CONTEXT, DISK_SIZE, GROWTH = "CONTEXT", "DISK/SIZE", "GROWTH"
# What nodes and OVN let through a NIC: they act on that whatever the machine does.
FILTERS_OF_NICS = tuple(f"NIC/{key}" for key in ("SECURITY_GROUPS", "FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING"))
# What says how far a machine may grow while it runs, where its hypervisor has GROWTH.
MAXIMA = ("MEMORY_MAX", "VCPU_MAX", "MEMORY_RESIZE_MODE", "MEMORY_SLOTS")
# What says how many disks and NICs have room to come while it runs, likewise.
HOTPLUG_SLOTS = "HOTPLUG_SLOTS"

_NOTHING: Mapping[str, Sequence[MachineDevice]] = MappingProxyType({})
# A value as it is compared: text, or the keys and texts of a vector.
Normal = Union[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Change:
    """Describes the change of one attribute.
    old, new: for people, without secrets.
    how: live, hotplug (disks or NICs that only come, go or become larger, where the hypervisor has that done: at once
    if the machine runs, else by its next start), poweroff, catalog, or recreate where nothing else will do."""

    attribute: str
    old: str
    new: str
    how: str


def changes(
    old: Template,
    new: Template,
    live: Collection[str] = (CONTEXT,),
    has: Mapping[str, Sequence[MachineDevice]] = _NOTHING,
) -> list[Change]:
    """Return what has to change on a machine of template `old` so that it is one of template `new`.
    live: see model.hypervisor.Hypervisor.live_of().
    has: what the machine has of each DISK and NIC of `old`, as far as that is known.

    These are no difference: upper and lower case where case means nothing, the order of keys in a vector and of
    attributes of different names, numbers written in two ways, and an empty value in place of none."""
    found: list[Change] = []
    if old == new:
        return found
    for name in dict.fromkeys(old.names() + new.names()):
        if name in _IGNORED:
            continue
        before, after = normal_values(old, name), normal_values(new, name)
        if before != after:
            texts = values_text(name, before, after), values_text(name, after, before, new=True)
            found.append(Change(name, *texts, how_to_change(name, old, new, live, has)))
    return found


def how_to_change(
    name: str,
    old: Template,
    new: Template,
    live: Collection[str] = (CONTEXT,),
    has: Mapping[str, Sequence[MachineDevice]] = _NOTHING,
) -> str:
    """Return what it takes to change that attribute from old to new."""
    if name == CONTEXT:
        if old.has(name) != new.has(name):
            return RECREATE
        places = [{key: t.vector(name).get(key, "") for key in ("TARGET", "DEV_PREFIX", "DRIVER")} for t in (old, new)]
        return LIVE if places[0] == places[1] and _is_read_at_once(old, new, live) else POWEROFF
    if name == "CONTEXT_FORMAT" and not _is_read_at_once(old, new, live):
        return POWEROFF
    if name == "OS" and _caseless(old, "UUID") != _caseless(new, "UUID"):
        return RECREATE
    if name in (*MAXIMA, HOTPLUG_SLOTS):
        return POWEROFF if GROWTH in live else "catalog"
    values = normal_values(old, name), normal_values(new, name)
    if f"{name}/PASSWD" in live and is_another_password(*values):
        return LIVE
    if name in CHANGEABLE:
        return CHANGEABLE[name]
    if name in DEVICES:
        pairing = pair_devices(name, old, new, has, keys_of(name, tuple(live)))
        at_once = name in live and (not pairing.grown or DISK_SIZE in live)
        return POWEROFF if pairing.how == HOTPLUG and not at_once else pairing.how
    return RECREATE if name in SINGLES or name in VECTORS else "catalog"


def live_while(live: Collection[str], waiting: Collection[str]) -> tuple[str, ...]:
    """Return what changes while a machine runs that waits for other changes: nothing of a console that is to be another
    one, and no context that is to be elsewhere."""
    if not waiting:
        return tuple(live)
    held = "GRAPHICS/" if "GRAPHICS" in waiting else None
    moves = "CONTEXT_DEVICE" not in live and not {CONTEXT, "CONTEXT_DEVICE"}.isdisjoint(waiting)
    return tuple(
        each for each in live if not (held is not None and each.startswith(held)) and not (moves and each == CONTEXT)
    )


def is_another_password(before: Sequence[Normal], after: Sequence[Normal]) -> bool:
    """Return whether a console has another password, and nothing else is different of it. One that had none, or is to
    have none, is started so."""
    vectors = [dict(each[0]) if each and not isinstance(each[0], str) else {} for each in (before, after)]
    passwords = [vector.pop("PASSWD", "") for vector in vectors]
    return all(passwords) and passwords[0] != passwords[1] and vectors[0] == vectors[1]


@functools.lru_cache(maxsize=256)
def keys_of(name: str, live: tuple[str, ...]) -> frozenset[str]:
    """Return the keys of a vector that are among what changes while a machine runs."""
    return frozenset(each.partition("/")[2] for each in live if each.startswith(f"{name}/"))


def pair_devices(
    name: str,
    old: Template,
    new: Template,
    has: Mapping[str, Sequence[MachineDevice]] = _NOTHING,
    live: Collection[str] = (),
) -> Pairing:
    """Return which of the machine's disks or NICs each of `new` is. live: keys that change while it runs."""
    return _paired(name, old, new, _Same(has.get(name, ())), frozenset(live))


class _Same:
    """Stands for what a machine has, whose values can't be compared cheaply: equal is what is the same object."""

    def __init__(self, devices: Sequence[MachineDevice]) -> None:
        self.devices = devices

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.devices is other.devices

    def __hash__(self) -> int:
        return id(self.devices)


# The same is asked many times while one machine is decided about.
@functools.lru_cache(maxsize=32)
def _paired(name: str, old: Template, new: Template, has: _Same, live: frozenset[str]) -> Pairing:
    known = [replace(each, values=normal_vector(each.values)) for each in has.devices]
    before, after = ([normal_vector(vector) for vector in template.vectors(name)] for template in (old, new))
    return device_matching.pair_vectors(name, before, after, known, live)


def refuse_sizes(old: Template, new: Template, has: Mapping[str, Sequence[MachineDevice]], where: str) -> None:
    """Raise InvalidValue, or Unsupported, for a disk that the machine keeps and that can't have its SIZE of `new`."""
    device_matching.refuse_sizes(new.vectors("DISK"), has.get("DISK", ()), pair_devices("DISK", old, new, has), where)


def normal_vector(vector: Mapping[str, str]) -> dict[str, str]:
    """Return the vector as it is compared: without empty values, each in its one form."""
    return {key: _normal_text(key, text) for key, text in vector.items() if text}


def _is_read_at_once(old: Template, new: Template, live: Collection[str]) -> bool:
    """Return whether a running machine gets another context. No hypervisor changes the medium of one that is a disk to
    the guest, or becomes one; those that have no drives don't ask what it is."""
    devices = {template.get("CONTEXT_DEVICE").strip().lower() for template in (old, new)}
    return CONTEXT in live and ("disk" not in devices or "CONTEXT_DEVICE" in live)


def _caseless(template: Template, key: str) -> str:
    return template.vector("OS").get(key, "").lower()


def normal_values(template: Template, name: str) -> list[Normal]:
    """Return what the template says of the attribute, as it is compared."""
    values = [_normal_value(name, value) for key, value in template.attributes if key == name]
    if not any(values) and not (name == "CONTEXT" and values):
        values = [_normal_value(name, _DEFAULTS[name])] if name in _DEFAULTS else []
    return values


def _normal_value(name: str, value: Value) -> Normal:
    if isinstance(value, str):
        return _normal_text(name, value)
    if name in _GUESTS:
        return tuple(sorted(value))
    return tuple(sorted((key, _normal_text(key, text)) for key, text in value if text))


@functools.lru_cache(maxsize=4096)
def _normal_text(key: str, text: str) -> str:
    if is_secret(key) or key in ("DATA", "KERNEL_CMD"):
        return text
    stripped = text.strip()
    word = _WORDS.get(stripped.upper())
    if word and key != "KEYMAP":
        return word
    number = _number(stripped)
    if number:
        return number
    # A target may be a path.
    return stripped.lower() if key in _CASELESS and not stripped.startswith("/") else stripped


def _number(text: str) -> str:
    """Return a decimal number in its shortest form; "" for other text, and for a name of digits with zeros in front."""
    whole, point, fraction = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (fraction.isdigit() if point else True)):
        return ""
    if len(whole) > 1 and whole.startswith("0"):
        return ""
    return whole + ("." + fraction.rstrip("0") if fraction.rstrip("0") else "")


def values_text(name: str, values: Sequence[Normal], others: Sequence[Normal], new: bool = False) -> str:
    """Return the values as text, of vectors only the keys in which they differ. Of a secret its name is shown: in the
    old values alone if it went, in the new ones alone if it came, and with "another" in the new ones if it changed."""
    if not values:
        return "nothing"
    texts = []
    for index, value in enumerate(values):
        other = others[index] if index < len(others) else ()
        if isinstance(value, str):
            texts.append(_text(name, name, value, new and bool(other)))
        else:
            texts.append(_pairs(name, dict(value), {} if isinstance(other, str) else dict(other), new))
    return ", ".join(text for text in texts if text) or "nothing of it"


def _pairs(name: str, own: Mapping[str, str], other: Mapping[str, Any], new: bool) -> str:
    differing = [key for key, value in own.items() if other.get(key) != value]
    inner = ", ".join(f"{key} = {_text(name, key, own[key], new and key in other)}" for key in differing)
    return f"[ {inner} ]" if inner else ""


def _text(name: str, key: str, value: str, another: bool) -> str:
    # Any variable of a context may be a secret.
    if name == "CONTEXT" or (name, key) == ("INJECT", "CONTENT") or is_secret(key):
        return "(another secret)" if another else "(secret)"
    if name == "RAW" and key == "DATA":
        return f"({len(value)} characters)"
    return value
