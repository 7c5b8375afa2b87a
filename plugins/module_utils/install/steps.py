# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what is due for each installation on the front-end, as far as it is the catalog's and the datastore's to do.

Roles image, vm and verify do the rest between the calls of this module. Every call looks anew: nothing is handed
from one to the next but what a node has heard from its guests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engines.base import Engine
from ..errors import NebulaError
from .believed_answers import refuse_foreign
from .conclude import conclude, convert, record
from .decide_step import begin
from .find_installations import look_up
from .install_item import Spec
from .installation import Outcome, Settings, Work, error_of
from .make_media import prepare

STATES = ("begun", "prepared", "recorded", "converted", "concluded", "shown")


def run(engine: Engine, state: str, items: Sequence[Mapping[str, Any]], settings: Settings) -> Outcome:
    """Do the steps of one call for all items, and return their outcome. It is called without a session."""
    works = look_up(engine, items, settings)
    refuse_foreign(works, settings)
    outcome = Outcome(works, root=settings.root)
    act = {
        "begun": begin,
        "prepared": prepare,
        "recorded": record,
        "converted": convert,
        "concluded": conclude,
        "shown": _show,
    }[state]
    for work in works:
        # What is given up is not gone on with.
        due = work.spec is not None and (work.spec.state != "absent" or state in ("begun", "prepared"))
        if work.error is None and work.spec is not None and due:
            try:
                act(engine, work, work.spec, settings, outcome)
            except (NebulaError, OSError) as problem:
                work.error = error_of(work, problem)
    return outcome


def _show(engine: Engine, work: Work, spec: Spec, settings: Settings, outcome: Outcome) -> None:
    """Do nothing more: the installation was looked up."""
