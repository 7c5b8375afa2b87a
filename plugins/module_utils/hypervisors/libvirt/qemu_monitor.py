# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the QEMU of a running machine what libvirt has no words for."""

from __future__ import annotations

import json
from typing import Any

from ...deps import require
from ...errors import HypervisorError
from .domains import message_of


def ask(lv: Any, domain: Any, asked: str, command: str, **arguments: Any) -> Any:
    """Return what the command of QEMU's monitor returns. Raise HypervisorError where it fails."""
    text = json.dumps({"execute": command, "arguments": arguments})
    try:
        answer = json.loads(require("libvirt_qemu").qemuMonitorCommand(domain, text, 0))
    except lv.libvirtError as error:
        raise HypervisorError(asked, message_of(error), "See the machine's vm.log, then run again") from error
    if "error" in answer:
        raise HypervisorError(f"{asked}: {command}", str(answer["error"].get("desc", answer["error"])))
    return answer.get("return")
