# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what is due, before anything is made (state begun)."""

from __future__ import annotations

from typing import Any

from ..engines.base import Engine
from ..errors import WrongState
from ..model import installation_marks
from ..model.installation_marks import INSTALLED
from ..model.object_names import doubt_of_name
from . import installation_end, next_step
from .install_item import Spec
from .installation import Outcome, Settings, Work, is_there
from .next_step import machine_name
from .own_images_and_templates import id_of, media_of, templates_of
from .preflight import check_answers, check_drivers, check_host, check_iso, check_templates, refuse_taken

_TO_INSTALL = (next_step.MAKE, next_step.START, next_step.END)


def begin(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Decide what is due for one installation, and refuse an installation that could not be finished."""
    if spec.state == "absent":
        work.changed = is_there(work) or _has_beside(engine, work)
        outcome.vms += ends(work)
        return
    refuse_undecided(work, spec)
    _refuse_answers(work, spec)
    if work.step in (*_TO_INSTALL, next_step.WAIT, next_step.CONVERT, next_step.VERIFY):
        refuse_taken(engine, spec)
    if work.step in _TO_INSTALL:
        check_answers(spec, settings, needed=False)
        check_host(engine, spec)
        check_drivers(engine, spec)
        check_templates(engine, work, spec, settings)
        check_iso(engine, work, spec, settings, outcome)
        if work.step == next_step.MAKE:
            work.warnings += filter(None, (doubt_of_name("image", spec.name),))
        work.changed = True
        if work.step == next_step.END:
            outcome.vms += ends(work)
    elif work.step == next_step.FINISH:
        heard = _was_heard(work, spec)
        with engine.session():
            engine.images.update(id_of(work.image), unfinished=INSTALLED)
        work.changed = True
        # What runs may have something in memory that belongs on the disk.
        off = work.machine is not None and work.machine.reached and work.machine.seen in ("POWEROFF", "")
        outcome.vms += ends(work, hard=off or heard)
    elif work.step in (next_step.CONVERT, next_step.VERIFY):
        work.changed = not settings.is_far_enough(work.step)
    elif work.step == next_step.DONE:
        # What a run left that was killed.
        work.changed = _has_beside(engine, work, spec.keep)
        if work.trial is not None and not spec.keep:
            outcome.vms += ends(work)


def refuse_undecided(work: Work, spec: Spec) -> None:
    """Raise WrongState where a human has to decide first what becomes of the installation, or has asked for the
    impossible."""
    if spec.state == "installed" and work.step in _TO_INSTALL:
        raise WrongState(
            f"{spec.where}: state installed", "nothing was installed yet", "Set state: present to begin with it"
        )
    if work.step == next_step.UNREACHED and work.record is not None:
        raise WrongState(
            f"{spec.where}: machine {work.record.name}",
            f"host {work.record.host} did not answer",
            "Run again when it does: nothing is begun anew until it is known what it has",
        )
    if work.step != next_step.UNSURE:
        return
    if work.record is None or (work.image is not None and work.record.wanted == "DONE"):
        raise WrongState(
            f"{spec.where}: image {spec.name}",
            "something is on its disk, and its machine is gone, or going, without a word whether it is finished",
            "Set state: installed if it is finished, or state: absent to give it up, after which a run begins anew",
        )
    if work.image is None:
        raise WrongState(
            f"{spec.where}: machine {work.record.name}",
            f"it is {work.record.state}, and the catalog has no image {spec.name} that it could be installing",
            "Was it renamed or removed? Look at the machine; state: absent gives the installation up, machine and all",
        )
    raise WrongState(
        f"{spec.where}: machine {work.record.name}",
        "it is off, and nothing tells whether its guest ended it when it was finished",
        "Look at its console and its disk. Then say state: installed if it is finished, or state: absent to give "
        "it up, after which a run begins anew",
    )


def _refuse_answers(work: Work, spec: Spec) -> None:
    """Raise what is wrong with the answers while they are still to be read. Add a warning for an installation that has
    read them, and goes on."""
    if spec.refused is None or work.step == next_step.DONE:
        return
    if work.step in _TO_INSTALL:
        raise spec.refused
    work.warnings.append(str(spec.refused))


def _was_heard(work: Work, spec: Spec) -> bool:
    """Return whether its machine was heard to be at its end while it runs on: an installer need not obey a power
    button."""
    image = work.image
    recorded = image is not None and image.unfinished == INSTALLED and installation_marks.TOOK in image.attributes
    return recorded and spec.shape.end == installation_end.PATTERN and spec.state != "installed"


def _has_beside(engine: Engine, work: Work, kept: bool = False) -> bool:
    """Return whether there is a trial, a template or any of the media. kept: trial and templates are to stay."""
    machines = not kept and (work.trial is not None or bool(templates_of(engine, work.name)))
    return machines or bool(media_of(engine, work.name))


def ends(work: Work, hard: bool = True) -> list[dict[str, Any]]:
    """Return items for role vm that end the machines of the installation."""
    ends = []
    if work.machine is not None:
        ends.append({"name": machine_name(work.name), "state": "absent", "hard": hard})
    if work.trial is not None:
        ends.append({"name": work.trial.name, "state": "absent", "hard": True})
    return ends
