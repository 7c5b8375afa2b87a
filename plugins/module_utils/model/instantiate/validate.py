# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks what a template must not say, as far as that can be known without its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import InvalidValue, NebulaError
from .. import attributes, beancounters, hypervisor_rules, injected_files, judgements
from ..attributes import near_misses, unknown_keys
from ..context import DEVICES
from ..context import FORMATS as CONTEXT_FORMATS
from ..judgements import hypervisor_of, judged_alike
from ..template import Template
from ..template_changes import HOTPLUG_SLOTS, MAXIMA
from . import cpu_topology, growth, pc_hardware, truncated_values
from .aliases import alias_demands
from .boot_order import check_bootable, doubts_of_boot, os_of, tpm_of
from .capacity import cpu_limit_of, cpu_of, memory_of, vcpu_of
from .disk_vectors import check_disks
from .graphics import doubts_of_graphics, graphics_of
from .nic_vectors import check_nics, with_nic_defaults
from .template_values import read_flag, read_word

_VECTORS_ONLY = (
    "DISK", "NIC", "NIC_DEFAULT", "NIC_ALIAS", "OS", "GRAPHICS", "INPUT", "FEATURES", "CPU_MODEL", "CONTEXT", "RAW",
    "INJECT", "TPM",
)  # fmt: skip
_SINGLES_ONLY = (
    "NAME", "CPU", "CPULIMIT", "VCPU", "HYPERVISOR", "EMULATOR", "CONTEXT_FORMAT", "CONTEXT_DEVICE", "INJECT_VIA",
    *MAXIMA, HOTPLUG_SLOTS,
)  # fmt: skip
_FLAGS = {
    "FEATURES": ("ACPI", "APIC", "PAE", "HYPERV", "LOCALTIME", "GUEST_AGENT"),
    "DISK": ("READONLY", "CLONE", "SAVE", "SHAREABLE", "FORCE_BUS"),
    "OS": ("FIRMWARE_SECURE",),
    "NIC_ALIAS": ("EXTERNAL",),
}


def validate(
    template: Template,
    strict: bool = False,
    where: str = "template",
    hypervisors: Sequence[str] = (),
    stored: Iterable[Template] = (),
) -> list[str]:
    """Return warnings; raise InvalidValue for what can't be meant. build() looks at what only the images tell.
    strict: an attribute that is not known is an error too, where it looks like a known one or stands in a known vector.
    where: names the object ("template web").
    hypervisors: those that its machines may come to, where it does not say itself; one that takes it is enough.
    stored: what the catalog has of it; an unknown key that is in it already is warned of, strict or not."""
    own = hypervisor_of(template)
    judged = ("any", judged_alike(template, [own] if own else hypervisors), strict, tuple(hypervisors))
    known = judgements.known(judged)
    if known is not None:
        return known
    slips, unknown = near_misses(template), unknown_keys(template)
    if strict:
        _refuse_unknown(slips + unknown, stored, where)
    try:
        found = slips + unknown + _check(template, where, hypervisors)
    except InvalidValue as error:
        attributes.add_near_misses(error, where, template)
        raise
    # What is unknown is judged by what the catalog has, too.
    return found if strict and slips + unknown else judgements.keep(judged, where, found)


def _refuse_unknown(found: Iterable[str], stored: Iterable[Template], where: str) -> None:
    had = {text for template in stored for text in unknown_keys(template)}
    for text in found:
        if text not in had:
            raise InvalidValue(where, text, "Correct it, or set strict: false to keep it as your own attribute")


def _check(template: Template, where: str, hypervisors: Sequence[str]) -> list[str]:
    """Return warnings; raise InvalidValue for what no machine can be."""
    warnings = []
    _check_shapes(template, where)
    _check_memory(template, where)
    template = with_nic_defaults(template, where)
    if not template.has("MEMORY"):
        warnings.append("MEMORY is not set: give it (in MB) before a machine is made of this")
    elif not template.vectors("MEMORY"):
        memory_of(template, where)
    cpu_of(template, where)
    cpu_limit_of(template, where)
    vcpu_of(template, where)
    warnings += _check_for_any(template, where, hypervisors)
    if template.vectors("MEMORY"):
        # Whoever takes no such vector has said so by now.
        memory_of(template, where)
    read_word(template, "CONTEXT_FORMAT", CONTEXT_FORMATS, where)
    read_word(template, "CONTEXT_DEVICE", DEVICES, where)
    injected_files.read_inject(template, where)
    tpm_of(template, where)
    if len(template.vectors("CONTEXT")) > 1:
        raise InvalidValue(f"{where}: CONTEXT", "it is there twice", "Put all its variables into one")
    return warnings


def refusals_by_hypervisor(template: Template, where: str, hypervisors: Iterable[str]) -> dict[str, NebulaError]:
    """Return by hypervisor why it can have no machine of the template; nothing for a hypervisor that can."""
    found: dict[str, NebulaError] = {}
    template = with_nic_defaults(template, where)
    for hypervisor in hypervisors:
        try:
            _check_for_hypervisor(template, where, hypervisor)
        except NebulaError as error:
            found[hypervisor] = error
    return found


def _check_for_any(template: Template, where: str, hypervisors: Sequence[str]) -> list[str]:
    own = hypervisor_of(template)
    errors = []
    for hypervisor in [own] if own else hypervisors or [hypervisor_rules.DEFAULT]:
        try:
            return _check_for_hypervisor(template, where, hypervisor)
        except NebulaError as error:
            errors.append(error)
    raise errors[0]


def _check_for_hypervisor(template: Template, where: str, hypervisor: str) -> list[str]:
    """Return warnings of what depends on the hypervisor; raise InvalidValue for what it can't have."""
    judged = (hypervisor, judged_alike(template, [hypervisor]))
    known = judgements.known(judged)
    return judgements.keep(judged, where, _doubts(template, where, hypervisor)) if known is None else known


def _doubts(template: Template, where: str, hypervisor: str) -> list[str]:
    kinds, warnings = check_disks(template, where, hypervisor)
    check_nics(template, where)
    alias_demands(template, where)
    os_of(template, where, kinds, hypervisor)
    warnings += doubts_of_boot(template, hypervisor)
    warnings += check_bootable(template, kinds, where)
    graphics = graphics_of(template, where, None)
    if graphics is not None:
        warnings += doubts_of_graphics(graphics)
    rule = hypervisor_rules.rules_of(hypervisor)
    rule.check(template, where)
    attributes.refuse_attributes(template, where, rule.column, rule.own)
    warnings += map(str, truncated_values.cuts_of_template(template, hypervisor))
    warnings += truncated_values.same_serials(template, hypervisor)
    warnings += cpu_topology.warn_of_topology(template, where) if rule.topology else []
    warnings += growth.warn_of_growth(template, where) if rule.grows else []
    if rule.hardware_version:
        warnings += pc_hardware.warn_of_hardware(template, where)
    return [*warnings, *rule.doubts(template), *attributes.without_effect(template, rule.column, rule.own)]


def _check_memory(template: Template, where: str) -> None:
    """Raise InvalidValue for more than one number or vector of beancounters. Hypervisors say if they take a vector."""
    vectors = template.vectors("MEMORY")
    if len(vectors) > 1 or (vectors and template.get("MEMORY")):
        raise InvalidValue(f"{where}: MEMORY", "it is there twice", "Keep one: a number of MB, or beancounters")
    for vector in vectors:
        beancounters.check(vector, f"{where}: MEMORY")


def _check_shapes(template: Template, where: str) -> None:
    for name, value in template.attributes:
        if isinstance(value, str):
            if name in _VECTORS_ONLY:
                raise InvalidValue(
                    f"{where}: {name}", "it is a single value and has to be a vector", f"Write {name} = [ … ]"
                )
            continue
        if name in _SINGLES_ONLY:
            raise InvalidValue(f"{where}: {name} = [ … ]", "it has a single value", f"Write {name} = …")
        for key in _FLAGS.get(name, ()):
            read_flag(dict(value), key, f"{where}: {name}")
