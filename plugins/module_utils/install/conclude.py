# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what nodes heard, makes the OS image, and records what its first guest reported (states recorded, converted
and concluded)."""

from __future__ import annotations

from ..engines.base import Engine
from ..errors import WrongState
from ..host import files
from ..model import installation_marks
from ..model.installation_marks import INSTALLED, INSTALLING
from ..model.states import ImageState, ImageType
from ..reconcile.images import change
from ..storage import datastore_layout
from . import next_step
from .believed_answers import answer_under
from .decide_step import ends
from .install_item import Spec
from .installation import Outcome, Settings, Work
from .next_step import trial_name
from .own_images_and_templates import id_of, media_of, remove_images, remove_templates, store_template


def record(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Write down that the installer has ended, and have its machine ended."""
    heard = answer_under(settings.waited, spec.name)
    if heard is None or not heard.installed:
        return
    same = work.record is not None and heard.vm_id == work.record.id
    if work.image is None or work.record is None or not same or work.image.unfinished not in (INSTALLING, INSTALLED):
        raise WrongState(
            f"{spec.where}: machine {heard.vm_id}",
            "it is at its end, and another run has gone on with the installation meanwhile",
            "Let one run at a time deal with it; run again",
        )
    if work.image.unfinished == INSTALLING:
        work.seconds = max(0, settings.now - work.record.stime)
    with engine.session():
        attributes = {**work.image.attributes, installation_marks.TOOK: str(work.seconds or 0)}
        work.image = engine.images.update(id_of(work.image), unfinished=INSTALLED, attributes=attributes)
    work.changed, work.step = True, next_step.FINISH
    work.how = heard.how
    outcome.vms += ends(work)


def convert(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Make the disk an OS image, and a template of a machine that tries it."""
    if work.step == next_step.FINISH and work.record is not None:
        raise WrongState(
            f"{spec.where}: machine {work.record.name}",
            f"it is {work.record.state}, and still has the disk"
            + (f": {work.record.error}" if work.record.error else ""),
            "Power it off in its guest, or pull its plug if nothing is written any more (nebula_vms: state: poweroff, "
            "hard: true), then run again: nothing is installed anew",
        )
    if settings.is_far_enough(work.step) and work.step != next_step.DONE:
        return
    if work.step in (next_step.CONVERT, next_step.VERIFY, next_step.DONE):
        # Its machine is gone. Answers are not kept a moment longer.
        work.changed = remove_images(engine, media_of(engine, spec.name)) or work.changed
    if work.step == next_step.CONVERT and work.image is not None:
        # Both before the catalog calls it READY, and both again if that is killed.
        files.settle(work.image.source)
        datastore_layout.protect(work.image.source, writable=False)
        with engine.session():
            ready = {"unfinished": "", "state": ImageState.READY, "error": ""}
            work.image = change.convert(engine, work.image, ImageType.OS, False, **ready)
        work.changed = True
        work.step = next_step.step(work.image, None, False, spec.verify)
        if settings.is_far_enough(work.step) and work.step != next_step.DONE:
            return
    if work.step not in (next_step.VERIFY, next_step.DONE):
        return
    if not spec.keep:
        work.changed = remove_templates(engine, spec.name, trial=work.step == next_step.DONE) or work.changed
    if work.step == next_step.VERIFY:
        with engine.session():
            name = store_template(engine, work, next_step.trial(spec.shape, spec.own), installation_marks.TRIES)
        outcome.add_running(name, spec.host)
        outcome.patterns[name] = spec.trial
        outcome.timeout = max(outcome.timeout, spec.trial_timeout)
        work.changed = True


def conclude(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Write down that the image's first guest was believed, and have its machine ended."""
    name = trial_name(spec.name)
    heard = answer_under(settings.verified, name)
    # One of an earlier trial is of another machine.
    same = heard is not None and work.trial is not None and heard.vm_id in (None, work.trial.id)
    if heard is not None and heard.verified and same and work.step == next_step.VERIFY and work.image is not None:
        with engine.session():
            attributes = {**work.image.attributes, installation_marks.VERIFIED: "YES"}
            work.image = engine.images.update(id_of(work.image), attributes=attributes)
        work.changed, work.step = True, next_step.DONE
        work.how = heard.words
    if work.step == next_step.DONE and not spec.keep:
        if work.trial is not None:
            outcome.vms += ends(work)
        work.changed = remove_templates(engine, spec.name) or work.changed
