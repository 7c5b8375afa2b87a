# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds an installation in one call: what is known of it, what became of it, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from ..dataclass import dataclass
from ..engines.ports import VmRecord
from ..errors import NebulaError
from ..host.files import explain
from ..model import installation_marks
from ..model.answers.installations import Waited
from ..model.answers.verified_guests import Verified
from ..model.image import Image
from ..model.plan import Observed
from ..sync import Item, Result
from . import next_step
from .install_item import Spec
from .next_step import Machine

# What users read of each step.
WORDS = {
    next_step.MAKE: "to be installed",
    next_step.START: "to be installed",
    next_step.WAIT: "installing",
    next_step.END: "to be installed anew",
    next_step.UNREACHED: "installing, its host does not answer",
    next_step.UNSURE: "off, and nobody knows whether it is installed",
    next_step.FOREIGN: "refused",
    next_step.BROKEN: "OS image that machines can't be made of",
    next_step.FINISH: "installed, its machine is there still",
    next_step.CONVERT: "installed, to become an OS image",
    next_step.VERIFY: "OS image, its guest is not believed yet",
    next_step.DONE: "ready",
}


@dataclass
class Settings:
    """Holds the settings of one call.
    root: of the catalog.
    answers: the rendered files by installation, or {error: why not}.
    local: where ISOs are on the control node.
    waited, verified: by host, what nodes heard of installations and of trials.
    refused: by host, why its answer was not believed.
    until: how far this run goes."""

    check_mode: bool = False
    root: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    local: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    observed: Sequence[Observed] = ()
    waited: Mapping[str, Sequence[Waited]] = field(default_factory=dict)
    verified: Mapping[str, Sequence[Verified]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    now: int = 0
    until: str = "verified"

    def is_far_enough(self, step: str) -> bool:
        return step in next_step.DUE_AFTER[self.until]


@dataclass
class Work:
    """Holds one installation in one call."""

    name: str
    spec: Spec | None = None
    image: Image | None = None
    record: VmRecord | None = None
    machine: Machine | None = None
    trial: VmRecord | None = None
    step: str = ""
    error: NebulaError | None = None
    changed: bool = False
    how: str = ""
    seconds: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """Holds what a call returns.
    isos: items for role image.
    vms: for role vm.
    waits: for nebula_install_wait.
    patterns, timeout: for role verify."""

    works: list[Work]
    isos: list[dict[str, Any]] = field(default_factory=list)
    vms: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    patterns: dict[str, str] = field(default_factory=dict)
    timeout: int = 0
    root: str = ""
    # Bytes by directory that all of them want.
    room: dict[str, int] = field(default_factory=dict)

    def result(self, settings: Settings, refused: Sequence[Item], complain: bool) -> Result:
        """Return the result of a call.
        refused: items that are no installations.
        complain: what is the matter with an installation is a failure of the call."""
        payload = {
            "installs": [row(work) for work in self.works],
            "going": [work.name for work in self.works if goes_on(work, settings)],
            "isos": self.isos,
            "vms": self.vms,
            "waits": self.waits,
            "patterns": self.patterns,
            "timeout": self.timeout,
            "refused_answers": settings.refused,
        }
        warnings = [*(text for work in self.works for text in work.warnings), *settings.refused.values()]
        return Result([*(refused if complain else ()), *self.items(complain)], payload, warnings)

    def add_running(self, name: str, host: str) -> None:
        """Add the item of a machine that is made of the template of its name. host: "" for any."""
        self.vms.append({"name": name, "template": name, "state": "running", **({"host": host} if host else {})})

    def items(self, complain: bool = True) -> list[Item]:
        """Return the results, one for each installation. complain: whether an installation's error is a failure of the
        call."""
        found = []
        for work in self.works:
            error, after = work.error if complain else None, {"step": row(work)["step"]}
            found.append(Item(work.name, {"step": ""}, after, error, changed=work.changed))
        return found


def row(work: Work) -> dict[str, Any]:
    """Return an installation as results show it."""
    image = work.image
    step = WORDS.get(work.step, "")
    if work.step == next_step.UNSURE and work.machine is None:
        step = "left without its machine, and nobody knows whether it is installed"
    if work.spec is not None and work.spec.state == "absent":
        step = "given up" if not is_there(work) else "to be given up"
        step = "ready, and left as it is" if work.step in (next_step.DONE, next_step.VERIFY) else step
    elif work.step == next_step.DONE and image is not None:
        verified = image.attributes.get(installation_marks.VERIFIED) == "YES"
        step = "ready, verified" if verified else "ready, not verified"
    return {
        "name": work.name,
        "step": step or "refused",
        "due": work.step,
        "image": None if image is None else image.id,
        "type": "" if image is None else image.type.name,
        "state": "" if image is None else image.state.name,
        "machine": work.record.name if work.record is not None else "",
        "machine_id": work.record.id if work.record is not None else None,
        "host": work.record.host if work.record is not None else "",
        "how": work.how,
        "seconds": work.seconds,
        "error": str(work.error) if work.error is not None else "",
    }


def goes_on(work: Work, settings: Settings) -> bool:
    """Return whether something is due that can be done, and that this run is to do."""
    if work.error is not None or work.spec is None:
        return False
    return work.changed or (work.spec.state != "absent" and not settings.is_far_enough(work.step))


def is_there(work: Work) -> bool:
    """Return whether there is anything of an installation that is not at its end."""
    return work.machine is not None or (work.image is not None and bool(work.image.unfinished))


def error_of(work: Work, problem: NebulaError | OSError) -> NebulaError:
    """Return the problem as an error that names the installation."""
    error = explain(problem, str(problem.filename or "")) if isinstance(problem, OSError) else problem
    if f"install {work.name}" not in error.asked:
        error.asked = f"install {work.name}: {error.asked}"
    return error
