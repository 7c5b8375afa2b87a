# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leads from a module's run() to Ansible's exit: the only place that turns errors into fail_json."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Protocol

from ansible.module_utils.basic import AnsibleModule

from .errors import Fault, InvalidValue, NebulaError
from .host import unsandboxed_programs
from .host.files import explain
from .printable import printable
from .sync import Result, summary


class Call(Protocol):
    """Describes a file of calls/: what a module does with its arguments, which stand beside it as ARGUMENTS.

    A file whose module needs Python libraries beside the standard one also has `libraries(params)`, which names them,
    and `respawn`: so deps.py does not travel with all other modules.
    """

    ARGUMENTS: dict[str, Any]

    def run(self, params: Mapping[str, Any], check_mode: bool, /) -> Result: ...


def carry_out(module: AnsibleModule, call: Call) -> None:
    """Run a file of calls/ and exit with its result, in an interpreter that has the libraries which it needs."""
    respawn, libraries = getattr(call, "respawn", None), getattr(call, "libraries", None)
    if respawn is not None and libraries is not None:
        respawn(module, libraries(module.params))
    execute(module, call.run)


# Objects that are made, and not freed again, before Python looks for cycles among all there are. A module is short, and
# makes hardly any cycle: looking after each 700, as is usual, took a fifth of the time of ten thousand machines.
_OBJECTS_BEFORE_COLLECTION = 100_000


def execute(module: AnsibleModule, run: Callable[[Any, bool], Result]) -> None:
    """Run `run(params, check_mode)` and exit with its result.

    Items that failed fail the task, after all others were done: the payload is there in both cases."""
    # What is created holds configuration or secrets: nothing of it is anybody else's by default.
    os.umask(0o077)
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    gc.enable()
    atexit.register(leave_garbage)
    try:
        refuse_bad_root(module.params)
        result = run(module.params, module.check_mode)
    except Exception as problem:
        error = as_error(problem)
        _warn(module, unsandboxed_programs.warnings())
        module.fail_json(msg=str(error), error=error.as_dict())
    _warn(module, [*result.warnings, *unsandboxed_programs.warnings()])
    answer = answer_of(result, module._diff)
    # What becomes of the answer now takes several times its size.
    del result
    if answer.pop("failed", False):
        module.fail_json(**answer)
    module.exit_json(**answer)


def leave_garbage() -> None:
    """Keep Python from going through all objects once more as it ends, which takes a tenth of a short call."""
    gc.disable()
    gc.freeze()


def answer_of(result: Result, diff: bool) -> dict[str, Any]:
    """Return what a module with this result tells Ansible; "failed" is there only if items failed."""
    answer: dict[str, Any] = dict(result.payload, changed=result.changed)
    if diff:
        answer["diff"] = result.diff()
    if result.errors:
        answer["failed"] = True
        answer["msg"] = summary(result.errors)
        answer["errors"] = [
            dict(item.error.as_dict(), name=item.name) for item in result.errors if item.error is not None
        ]
    return answer


def _warn(module: AnsibleModule, texts: Sequence[str]) -> None:
    for text in texts:
        module.warn(printable(text))


def refuse_bad_root(params: Mapping[str, Any]) -> None:
    """Raise InvalidValue for a root that is no directory of its own."""
    if "root" not in params:
        return
    root = str(params["root"] or "")
    if not os.path.isabs(root) or os.path.normpath(root).strip("/") == "":
        raise InvalidValue(
            f"nebula_root {root!r}",
            "it is not the absolute path of a directory of its own",
            "Give one such as /var/lib/nebula",
        )


def as_error(problem: Exception) -> NebulaError:
    """Return any error as one of ours."""
    if isinstance(problem, NebulaError):
        return problem
    if isinstance(problem, OSError):
        return explain(problem, str(problem.filename or "(not told)"))
    # Neither its text nor a traceback: they may show values, and with them secrets.
    steps = traceback.extract_tb(problem.__traceback__)[-3:]
    places = " → ".join(f"{os.path.basename(step.filename)}:{step.lineno} {step.name}" for step in steps)
    return Fault(
        "this task",
        f"it met {type(problem).__name__} in {places}",
        "This is a fault of nebula.provision: report it with these words and what was asked. "
        "Nothing of what it was deciding was kept",
    )


@contextlib.contextmanager
def closing(thing: Any) -> Any:
    try:
        yield thing
    finally:
        thing.close()
