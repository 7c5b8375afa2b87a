# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files of a machine without a network and without an agent: by its serial console."""

from __future__ import annotations

import hashlib
import json
import os

from in_world import in_bare_world

from ansible_collections.nebula.provision.plugins.plugin_utils.guest.use_console import URI, Terminal
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.site_runs import torn_down
from ansible_collections.nebula.provision.tests.integration.test_guest_connection import Guests


def use_console(site: Guests) -> None:
    site.variables["nebula_vms"] = [{"name": "bare", "template": "deaf", "hard": True}]
    code, output = site.run("site.yml")
    assert code == 0, output
    console = ("-e", "nebula_guest_way=console")

    def ask(module: str, arguments: str, *more: str) -> tuple[int, str]:
        return site.ask("bare", module, arguments, *console, *more)

    code, output = ask("raw", "echo it is $(id -u); echo not >&2; exit 7", "-e", "nebula_guest_answer_timeout=60")
    assert "rc=7" in output and "it is 0" in output and "not" in output, output
    assert "rc=143" in ask("raw", "kill -TERM $$; true")[1]
    script, content = site.directory / "script", os.urandom(20000)
    script.write_bytes(b'#!/bin/sh\nsha256sum "$0"; exit 0\n' + content)
    code, output = ask("script", str(script))
    assert code == 0 and hashlib.sha256(script.read_bytes()).hexdigest() in output, output
    # What is given to a command is not shown, and nobody is left logged in: the shell asks as before.
    console_log = site.root / "datastores/0/0/console.log"

    def last_line() -> str:
        return console_log.read_text(errors="replace").rstrip().rpartition("\n")[2]

    wait_for(lambda: last_line().startswith("root@"), "the shell asks again")
    assert "it is $(id" not in console_log.read_text(errors="replace")
    held = Terminal(["virsh", "-c", URI, "console", "one-0"])
    try:
        assert held.wait("Escape character", 20)
        code, output = ask("raw", "true")
        assert code != 0 and "somebody else uses its serial console" in output, output
    finally:
        held.close()
    for variables, sentence in (
        ({"nebula_machine": {"id": 0, "host": "node1", "catalog": "another"}}, "does not carry the catalog's mark"),
        ({"nebula_machine": {"id": 9, "host": "node1"}}, "there is no such domain"),
    ):
        code, output = ask("raw", "true", "-e", json.dumps(variables))
        assert code != 0 and sentence in output and "Traceback" not in output, output
    code, output = site.run(
        "site.yml", nebula_vms=[{"name": "bare", "template": "deaf", "state": "poweroff", "hard": True}]
    )
    assert code == 0, output
    code, output = ask("raw", "true")
    assert code != 0 and "the machine does not run" in output, output


@in_bare_world
def test_commands_and_files_by_the_console(image: str) -> None:
    """The demo guest has a root shell on its serial console."""
    with torn_down(Guests(image)) as site:
        use_console(site)
