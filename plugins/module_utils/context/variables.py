# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the final variables of context.sh out of CONTEXT = [ … ] and the machine."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..dataclass import replace
from ..model.context import Context
from ..model.disk import Disk
from ..model.image import Image
from ..model.instantiate.shared_directories import variables_of
from ..model.network import Network
from ..model.nic import Alias, Nic
from ..model.states import ImageType
from ..model.template import Template
from ..model.vm import Vm
from ..text import context_sh
from ..text.variable_substitution import Expression, Scope, expressions, replace_expressions
from .files_attribute import parse_files, refuse_same_names
from .guest_settings import SECRET

# ETHn_<first>, and the attributes of the NIC or its network that it comes from: the first that is set counts.
# The machine has every one of them, if only empty: guests test for what is there.
NETWORK_VARIABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("DNS", ("DNS",)),
    ("EXTERNAL", ("EXTERNAL",)),
    ("GATEWAY", ("GATEWAY",)),
    ("IP", ("IP",)),
    ("IP6", ("IP6_GLOBAL", "IP6")),
    ("IP6_GATEWAY", ("IP6_GATEWAY", "GATEWAY6")),
    ("IP6_METHOD", ("IP6_METHOD",)),
    ("IP6_METRIC", ("IP6_METRIC",)),
    ("IP6_PREFIX_LENGTH", ("IP6_PREFIX_LENGTH", "PREFIX_LENGTH")),
    ("IP6_ULA", ("IP6_ULA",)),
    ("MAC", ("MAC",)),
    ("MASK", ("NETWORK_MASK",)),
    ("METHOD", ("METHOD",)),
    ("METRIC", ("METRIC",)),
    ("MTU", ("GUEST_MTU",)),
    ("NETWORK", ("NETWORK_ADDRESS",)),
    ("ROUTES", ("ROUTES",)),
    ("SEARCH_DOMAIN", ("SEARCH_DOMAIN",)),
    ("VLAN_ID", ("VLAN_ID",)),
    ("VROUTER_IP", ("VROUTER_IP",)),
    ("VROUTER_IP6", ("VROUTER_IP6",)),
    ("VROUTER_MANAGEMENT", ("VROUTER_MANAGEMENT",)),
)
# Base64 has no $, and a script is full of them.
_NEVER_EXPANDED = frozenset(("START_SCRIPT", "START_SCRIPT_BASE64"))
_OWNER_SAYS = "What a $USER[…] has is said by the option owner (nebula_owner)."
_USER, _OF_OWNERS = "USER", ("UNAME", "UID", "GNAME", "GID")
# Where a file of the front-end is, in images and files: only the context's own files need it, and no guest.
_PATHS, _FILES = ("PATH", "SOURCE", ""), ("FILES", "FILES_DS")
_NO_PATH = "guests are not shown where the front-end has its files (FILES and FILES_DS bring a file to them)"
_NO_VCPU = "the template does not set it, and only what it sets is filled in (set VCPU = 1)"
_NO_LISTEN = "the template does not set it, and only what it sets is filled in"
_PASSWORD = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
_PLAIN_DOLLAR = "For a plain $ write $$ in YAML; in OpenNebula's text name an attribute outside of CONTEXT that has it"


def build_context(
    vm: Vm, template: Template, *, networks: Iterable[Network] = (), images: Iterable[Image] = ()
) -> tuple[Context | None, list[str]]:
    """Return the final context of an instantiated machine (None if its template has no CONTEXT), and warnings. Raise
    InvalidValue for values that a shell can't hold, and for FILES that can't be meant.

    Names that no shell takes are left out: OpenNebula writes them, and a shell would run the line as a command.
    vm: as model/instantiate/build.py built it; disk_id, target and bus of its context are kept.
    networks, images: what expressions() names beyond the machine's own NICs and disks."""
    if vm.context is None:
        return None, []
    images = list(images)
    given = _context_values(template)
    variables, warnings = {}, []
    scopes: dict[bool, Scope] = {}
    for name, raw in given.items():
        if not context_sh.is_name(name):
            warnings.append(f"CONTEXT/{name}: left out, as no shell takes that name: begin it with a letter")
            continue
        value = raw
        if "$" in value and name not in _NEVER_EXPANDED:
            shown = vm.context.exact and name not in _FILES
            if shown not in scopes:
                scopes[shown] = _scope(vm, template, networks, images, shown)
            value, unknown = replace_expressions(value, scopes[shown], secret=_may_be_secret(name, raw))
            remedy = _PLAIN_DOLLAR
            if any(map(_is_of_owner, expressions(raw))):
                remedy = f"{_OWNER_SAYS} {remedy}"
            warnings += [f"CONTEXT/{name}: {reason}. Nothing is put there. {remedy}" for reason in unknown]
        variables[name] = value
    variables.update(start_script(given))
    if variables.get("NETWORK", "").upper() == "YES":
        for name, value in _of_networks(vm):
            if not variables.get(name):
                variables[name] = value
    elif variables.get("NETWORK", "").upper() not in ("", "NO"):
        warnings.append("CONTEXT/NETWORK: only YES gives the machine its network variables")
    if variables.get("TOKEN", "").upper() == "YES":
        warnings.append(_with_token(variables, vm))
    for name, value in variables_of(vm.disks).items():
        if not variables.get(name):
            variables[name] = value
    variables["TARGET"] = vm.context.target or variables.get("TARGET", "")
    variables["DISK_ID"] = str(vm.context.disk_id)
    for name, value in variables.items():
        context_sh.check(name, value)
    files = refuse_same_names(
        [file for attribute in ("FILES", "FILES_DS") for file in parse_files(variables.get(attribute, ""), attribute)],
        images={image.source: image.name for image in images},
    )
    warnings += context_sh.check_names(variables)
    return replace(vm.context, variables=variables, files=files), warnings


def _may_be_secret(name: str, text: str) -> bool:
    """Return whether a word of the variable may be part of a password, by its name or by what is around its $NAMEs."""
    around = re.sub(r"\$\w+", "", text)
    return bool((SECRET.search(name) and "PUBLIC" not in name) or _PASSWORD.search(around))


def _with_token(variables: dict[str, str], vm: Vm) -> str:
    """Add what OpenNebula adds for a token of OneGate, as far as it is known here. Return a warning of the rest."""
    if vm.context is None or not vm.context.exact:
        return "CONTEXT/TOKEN: there is no OneGate here, so nothing is added for it"
    variables["VMID"] = str(vm.vm_id)
    return "CONTEXT/TOKEN: there is no OneGate here, so VMID is added for it, and no token and no endpoint"


def references(template: Template) -> list[Expression]:
    """Return the expressions of CONTEXT: what an engine may have to look up beyond the machine's own NICs and disks."""
    return [
        expression
        for name, value in _context_values(template).items()
        if name not in _NEVER_EXPANDED
        for expression in expressions(value)
    ]


def names_owner(template: Template) -> bool:
    """Return whether CONTEXT says anything of the machine's owner."""
    return any(map(_is_of_owner, references(template)))


def _is_of_owner(expression: Expression) -> bool:
    return expression.name == _USER if expression.is_vector else expression.name in _OF_OWNERS


def start_script(given: Mapping[str, str]) -> dict[str, str]:
    """Return START_SCRIPT, unchanged, as START_SCRIPT_BASE64 too if it holds a $.

    Guests prefer the second, and an engine that expands expressions by itself has nothing to expand in it."""
    script = given.get("START_SCRIPT", "")
    if "$" not in script or given.get("START_SCRIPT_BASE64"):
        return {}
    context_sh.check("START_SCRIPT", script)
    return {"START_SCRIPT_BASE64": base64.b64encode(script.encode()).decode()}


def _context_values(template: Template) -> dict[str, str]:
    merged: dict[str, str] = {}
    for vector in template.vectors("CONTEXT"):
        for name, value in vector.items():
            merged.setdefault(name.upper(), value)
    return merged


def _of_networks(vm: Vm) -> Iterator[tuple[str, str]]:
    """Yield the variables of all NICs and of all aliases."""
    for nic in vm.nics:
        yield from _network_variables(nic, f"ETH{nic.nic_id}_")
    for alias in vm.aliases:
        prefix = f"ETH{alias.parent_id}_ALIAS{alias.alias_id}_"
        for name, value in _network_variables(alias, prefix):
            # Guests know one word for it.
            yield name, "YES" if alias.external and name == f"{prefix}EXTERNAL" else value


def _network_variables(nic: Nic | Alias, prefix: str) -> Iterator[tuple[str, str]]:
    own = _own_values(nic)
    for name, attributes in NETWORK_VARIABLES:
        value = next((v for a in attributes if (v := own.get(a) or nic.network_values.get(a))), "")
        # One text for the NICs of all machines of a list.
        yield sys.intern(prefix + name), value


def _own_values(nic: Nic | Alias) -> dict[str, str]:
    """Return the values that the NIC or alias itself gives; those of its lease take precedence."""
    lease = {"IP": nic.ip, "MAC": nic.mac, "IP6": nic.ip6, "IP6_GLOBAL": nic.ip6, "IP6_ULA": nic.ip6_ula}
    return {**nic.options, **{name: value for name, value in lease.items() if value}}


# -- what expressions can name ----------------------------------------------------------------------------------------
def _scope(vm: Vm, template: Template, networks: Iterable[Network], images: Iterable[Image], shown: bool) -> Scope:
    """Return what a machine's expressions can name. shown: whether a guest that may not know everything is shown it."""
    singles = {
        "CPU": f"{vm.cpu:g}",
        "VCPU": str(vm.vcpu or 1),
        "MEMORY": str(vm.memory),
        **vm.attributes,
        **template.singles(),
        "NAME": vm.name,
        "VMID": str(vm.vm_id),
        **vm.owner.singles(),
    }
    images = list(images)
    vectors: dict[str, Sequence[Mapping[str, str]]] = {
        name: template.vectors(name) for name in template.names() if template.vectors(name)
    }
    vectors.update(
        NIC=[_nic(nic) for nic in vm.nics],
        NIC_ALIAS=[_alias(alias) for alias in vm.aliases],
        NETWORK=[*map(_network_of, vm.nics), *map(_network, networks)],
        DISK=[_disk(disk) for disk in vm.disks],
        IMAGE=[*map(_image, images), *(_image_of(disk) for disk in vm.disks if disk.image)],
        FILE=[_file(image) for image in images if image.type == ImageType.CONTEXT],
        USER=[vm.owner.vector()],
    )
    if vm.graphics:
        known = {"TYPE": vm.graphics.type, "LISTEN": vm.graphics.listen, "PORT": str(vm.graphics.port or "")}
        vectors["GRAPHICS"] = [{**template.vector("GRAPHICS"), **known}]
    if not vm.context or not vm.context.exact:
        return Scope(singles, {name: found for name, found in vectors.items() if any(found)})
    without = {}
    if not template.get("VCPU"):
        del singles["VCPU"]
        without["VCPU", ""] = _NO_VCPU
    if vm.graphics and not template.vector("GRAPHICS").get("LISTEN"):
        vectors["GRAPHICS"] = [{key: value for key, value in vectors["GRAPHICS"][0].items() if key != "LISTEN"}]
        without["GRAPHICS", "LISTEN"] = _NO_LISTEN
    if shown:
        for name in ("IMAGE", "FILE"):
            vectors[name] = [{key: value for key, value in each.items() if key not in _PATHS} for each in vectors[name]]
            without.update(((name, key), _NO_PATH) for key in _PATHS if key or name == "FILE")
    return Scope(singles, {name: found for name, found in vectors.items() if any(found)}, without)


def _text(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value not in (None, "")}


def _fields(of: object, names: str) -> dict[str, str]:
    """Return the fields that OpenNebula calls as we do, but for their case."""
    return _text(**{name: getattr(of, name.lower()) for name in names.split()})


def _nic(nic: Nic) -> dict[str, str]:
    place = _fields(nic, "NIC_ID NETWORK NETWORK_ID BRIDGE MODEL TARGET")
    return {**nic.network_values, **_own_values(nic), **place}


def _alias(alias: Alias) -> dict[str, str]:
    place = _fields(alias, "NIC_ID PARENT_ID ALIAS_ID NETWORK NETWORK_ID")
    return {**alias.network_values, **_own_values(alias), **place}


def _network_of(nic: Nic) -> dict[str, str]:
    place = _fields(nic, "NETWORK NETWORK_ID NIC_ID BRIDGE")
    # NAME chose the network before NETWORK did, and both are in use.
    return {**nic.network_values, **place, **_text(NAME=nic.network, ID=nic.network_id)}


def _network(network: Network) -> dict[str, str]:
    names = _text(NETWORK=network.name, NAME=network.name, NETWORK_ID=network.id, ID=network.id, BRIDGE=network.bridge)
    return {**network.attributes, **names}


def _disk(disk: Disk) -> dict[str, str]:
    own = _fields(disk, "DISK_ID TARGET TYPE IMAGE IMAGE_ID SOURCE FORMAT DRIVER FS SIZE")
    return {**disk.options, **own, "READONLY": "YES" if disk.readonly else "NO"}


def _image_of(disk: Disk) -> dict[str, str]:
    return {**_fields(disk, "IMAGE IMAGE_ID SOURCE FORMAT"), **_text(NAME=disk.image, ID=disk.image_id)}


def _image(image: Image) -> dict[str, str]:
    names = _text(IMAGE=image.name, NAME=image.name, IMAGE_ID=image.id, ID=image.id)
    own = _text(SOURCE=image.source, FORMAT=image.format, SIZE=image.size, TYPE=image.type.name, PATH=image.origin)
    return {**image.attributes, **names, **own}


def _file(image: Image) -> dict[str, str]:
    quote = '"' if "'" in image.name else "'"
    return {**_image(image), "": f"{image.source}:{quote}{image.name}{quote} "}
