# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the real readers make of files that hold hostile strings: libvirt's command line for QEMU, shells, nft, the ISO.
That every field has its case is tested in tests/unit/test_injection.py."""

from __future__ import annotations

import json
import shlex
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hostile import EXAMPLES, corpus
from in_world import in_bare_world, in_world

from ansible_collections.nebula.provision.plugins.module_utils.context import files_attribute as context_files
from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.model import network_checks, node_access
from ansible_collections.nebula.provision.plugins.module_utils.network import nat
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh
from ansible_collections.nebula.provision.tests.integration.test_context_sh import SHELLS

UUID = "0a6f3c22-91c3-4d3f-8b58-0d1f0e2ac001"
# Fields whose strings reach QEMU's command line.
FIELDS = (
    "Vm.name", "Vm.cpu_model", "Os.kernel", "Os.initrd", "Os.kernel_cmd", "Os.root", "Graphics.listen",
    "Graphics.keymap", "Graphics.password", "Disk.options", "Nic.model", "Nic.target", "Nic.bridge", "DiskFiles.path",
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@in_world
def test_the_command_line_of_qemu(field: str) -> None:
    import libvirt
    from injection import MARK, rendered

    from ansible_collections.nebula.provision.tests.unit.test_injection import WRITTEN

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("qemu:///system")

    def arguments(text: str) -> list[str] | None:
        try:
            return shlex.split(connection.domainXMLToNative("qemu-argv", rendered(WRITTEN[field](text)), 0))
        except (NebulaError, libvirt.libvirtError):
            return None

    model = arguments(MARK)
    taken = 0
    words = list(corpus("word").values())
    for text in words if EXAMPLES else words[::4]:
        if not text or text in ("host-passthrough", "host-model", "maximum"):
            continue
        found = arguments(text)
        if found is None or model is None:
            continue
        taken += 1
        options = [word for word in found if word.startswith("-") and word != text]
        wanted = [word for word in model if word.startswith("-") and MARK not in word]
        # One whose value begins with a dash is still the value of the option before it.
        assert len(found) == len(model), f"{text!r}: {found}"
        assert [o for o in options if text not in o] == wanted or text.startswith("-"), f"{text!r}: {options}"
        for word, same in zip(found, model):
            if MARK in word or MARK in same:
                forms = (
                    text,
                    text.replace(",", ",,"),
                    json.dumps(text)[1:-1],
                    json.dumps(text, ensure_ascii=False)[1:-1],
                )
                cut = text[:8]
                assert any(
                    word == same.replace(MARK, form)
                    for form in (
                        *forms,
                        f"[{text}]",
                        text.replace(" ", "\\ "),
                        json.dumps(text.replace(" ", "\\ "))[1:-1],
                        cut,
                    )
                ), f"{text!r}: {word}"
    connection.close()
    assert taken or field in ("Vm.cpu_model", "Graphics.listen", "Nic.model", "Graphics.keymap", "Disk.options")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_corpus_in_shells(shell: str, tmp_path: Path) -> None:
    variables = {}
    for number, text in enumerate(corpus("word").values()):
        try:
            context_sh.check(f"X_{number}", text)
        except NebulaError:
            continue
        variables[f"X_{number}"] = text
    assert len(variables) > 150
    (tmp_path / "context.sh").write_bytes(context_sh.render(variables).encode())
    script = ". ./context.sh\n" + "".join(f"printf '%s\\0' \"${name}\"\n" for name in variables)
    run = subprocess.run(
        [*SHELLS[shell], "-c", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == b"".join(text.encode() + b"\0" for text in variables.values())
    assert [path.name for path in tmp_path.iterdir()] == ["context.sh"], "something in it was run"


def test_names_of_files_on_the_iso(tmp_path: Path) -> None:
    import pycdlib

    (tmp_path / "source").write_text("content")
    taken = []
    for text in corpus("word").values():
        try:
            taken.append(context_files.context_file(str(tmp_path / "source"), text))
        except NebulaError:
            continue
    taken = [file for file in taken if file.target != "source"]
    assert len(taken) > 50
    iso9660.write_iso(str(tmp_path / "disk.1"), {"A": "1"}, context_files.refuse_same_names(dict.fromkeys(taken)))
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "disk.1"))
    names = {child.rock_ridge.name().decode() for child in iso.list_children(rr_path="/") if child and child.rock_ridge}
    iso.close()
    assert {file.target for file in taken} <= names


def ruleset() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(subprocess.check_output(["nft", "-j", "list", "ruleset"]))["nftables"]
    return listed


@in_bare_world
def test_rules_of_nftables() -> None:
    accepted = 0
    # Other tests of this world may have left theirs.
    others = {entry["table"]["name"] for entry in ruleset() if "table" in entry}
    for text in [*corpus("word").values(), "nbr0", "a-b.c_d"]:
        try:
            network_checks.check_bridge("x", text)
        except NebulaError:
            continue
        accepted += 1
        table = nat.observe(UUID)
        access = node_access.read("tcp/22 tcp/80-90 udp/53", "x")
        wanted = nat.Rules(UUID, text, "10.0.0.1", IPv4Network("10.0.0.0/24"), access)
        nat.ensure([wanted], table)
        ours, listed = nat.table_name(UUID), ruleset()
        assert len([entry for entry in listed if "rule" in entry and entry["rule"]["table"] == ours]) == (
            len(wanted.rules) + 1
        )
        assert {entry["table"]["name"] for entry in listed if "table" in entry} == {ours, *others}
        nat.remove([UUID], nat.observe(UUID))
    assert accepted > 2
