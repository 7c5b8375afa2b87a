# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does several modules' work in one call, where nothing of it is to be done: that is what a second run asks.

Each module is first asked what it would do, as in check mode. Where it would change nothing, it is carried out, so that
its answer is that of a call of its own. Where it would change something, or fails, this call ends, and the roles call
the modules one by one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .arguments import parse_json
from .dataclass import dataclass
from .deps import respawn_if_missing
from .errors import InvalidValue
from .host import packages
from .runner import Call, answer_of, as_error, execute, refuse_bad_root
from .sync import Item, Result

_NAMES = {"type": "list", "elements": "str", "default": []}
OPTIONS: dict[str, Any] = {
    "calls": {"type": "json", "required": True, "no_log": True},
    **dict.fromkeys(("roles", "after", "packages"), _NAMES),
    "found": {"type": "dict", "default": {}},
}


@dataclass(frozen=True)
class Look:
    """Says how a look asks modules.
    call_of: returns a module's file of calls/
    at_once: modules that are carried out unasked: they only read, or what they decide is what the caller wants
    only_asked: modules that are not carried out, because where nothing is to be done they do nothing at all, unless
    they answer that they make something anew"""

    call_of: Callable[[str], Call]
    at_once: Collection[str] = ()
    only_asked: Collection[str] = ()

    def run(self, asked: Sequence[Asked], params: Mapping[str, Any], check_mode: bool, diff: bool) -> Result:
        """Carry out the module whose options are params."""
        return look(self, asked, params["packages"], check_mode, diff)


@dataclass(frozen=True)
class Asked:
    """Describes a call. name: under which its answer is returned. params: of the module, as its specification says."""

    name: str
    module: str
    call: Call
    params: Mapping[str, Any]


def main(module: Any, wanted: Look) -> None:
    """Carry out a module that looks, and end. module: the AnsibleModule, its arguments parsed."""
    params = module.params
    try:
        asked = asked_of(params["calls"], wanted)
    except Exception as problem:
        module.exit_json(changed=False, answers={}, differs=str(as_error(problem)))
    respawn_if_missing(module, libraries(asked))
    execute(module, lambda _params, check_mode: wanted.run(asked, params, check_mode, module._diff))


def asked_of(text: str, wanted: Look) -> list[Asked]:
    """Read option calls: a list of {name, module, options}. Raise InvalidValue for what a module does not take."""
    found = []
    for entry in parse_json(text, "calls"):
        call = wanted.call_of(entry["module"])
        validated = ArgumentSpecValidator(**call.ARGUMENTS).validate(entry["options"])
        if validated.error_messages:
            raise InvalidValue(
                f"module {entry['module']}", "; ".join(validated.error_messages), "Correct the variables of its role"
            )
        found.append(Asked(entry["name"], entry["module"], call, validated.validated_parameters))
    return found


def libraries(asked: Sequence[Asked]) -> list[str]:
    """Return the names of the Python libraries that these calls need."""
    called = [(getattr(each.call, "libraries", None), each.params) for each in asked]
    return list(dict.fromkeys(name for libraries, params in called if libraries for name in libraries(params)))


def look(wanted: Look, asked: Sequence[Asked], needed: Sequence[str], check_mode: bool, diff: bool) -> Result:
    """Return the modules' answers, and what differs, "" if nothing does. needed: packages of the distribution."""
    result = Result(payload={"answers": {}, "differs": packages.missing(needed)})
    for each in () if result.payload["differs"] else asked:
        at_once = each.module in wanted.at_once
        answer, renews = answer_to(each, check_mode or not at_once, diff)
        is_asked_alone = check_mode or (each.module in wanted.only_asked and not renews)
        if not at_once and not is_asked_alone and not answer.get("failed") and not answer["changed"]:
            answer, _renews = answer_to(each, False, diff)
            # Others changed something of it between the question and the call.
            result.items += [Item(each.name, changed=True)] if answer["changed"] else []
        result.payload["answers"][each.name] = answer
        result.warnings += [] if at_once else answer["warnings"]
        if answer.get("failed") or answer["changed"]:
            result.payload["differs"] = f"{each.name}: {answer.get('msg') or 'something is to be done'}"
            break
    return result


def answer_to(asked: Asked, check_mode: bool, diff: bool) -> tuple[dict[str, Any], bool]:
    """Return the module's answer, with its warnings, and whether it makes something anew."""
    try:
        refuse_bad_root(asked.params)
        result = asked.call.run(asked.params, check_mode)
    except Exception as problem:
        error = as_error(problem)
        return {"failed": True, "changed": False, "msg": str(error), "error": error.as_dict(), "warnings": []}, False
    return {**answer_of(result, diff), "warnings": result.warnings}, result.renews
