# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as people run Ansible: its versions, options and logins, nodes that are not there, odd places of a
checkout. The product is the same in all of them, or says what it needs."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outside
import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from auditor import assert_consistent_here
from canaries import Canaries, ways
from in_world import in_bare_world
from make_target import OUTER

from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.ordinary_login import a_login
from ansible_collections.nebula.provision.tests.integration.site_runs import (
    HALTS,
    NETWORK,
    ONLY_REAL,
    ROOT,
    RUNNING,
    Case,
    changed_tasks,
    recap,
)

CURRENT = Path(sys.executable).parent
FLOOR = ROOT / ".venv-floor/bin"
VERSIONS = pytest.mark.parametrize("programs", ["current", "floor", "newest"], indirect=True)
# What templates, shells and YAML would each make something else of.
LITERAL = "{{ lookup('pipe', 'id') }} {% raw %} {# no #} $(id) `id` ${HOME} $NAME !unsafe 'a' \"b\" \\ é %i {{"
PASSWORD = b"vault"


class People(Case):
    """A site whose strings may be marked as people mark them: "!unsafe …" is not templated, "!vault …" is encrypted."""

    def inventory(self, **changes: Any) -> Path:
        inventory = super().inventory(**changes)
        vault = VaultLib([("default", VaultSecret(PASSWORD))])

        def marked(found: re.Match[str]) -> str:
            kind, text = found[1], json.loads(f'"{found[2]}"')
            if kind == "vault":
                text = vault.encrypt(text).decode()
            return f"!{kind} {json.dumps(text)}"

        inventory.write_text(re.sub(r'"!(unsafe|vault) ((?:[^"\\]|\\.)*)"', marked, inventory.read_text()))
        (self.directory / "vault").write_bytes(PASSWORD)
        return inventory

    def end(self) -> None:
        assert_consistent_here(str(self.root))
        code, output = self.run("playbooks/teardown.yml")
        assert code == 0 and not self.root.exists(), output

    def context(self, vm_id: int) -> str:
        """context.sh as its guest reads it."""
        iso = str(self.root / f"datastores/0/{vm_id}/disk.1")
        read = ["isoinfo", "-R", "-x", "/context.sh", "-i", iso]
        return subprocess.run(read, capture_output=True, text=True, check=True).stdout


# Keys of what nobody knows before it is made, and those of directories that an earlier task makes first.
UNKNOWN = re.compile(r'[-+ ] +"(id|uuid|registered|sha256|checksum|source|network|/[^"]*)":')


def diffs(output: str) -> dict[str, list[str]]:
    """Task → the lines that --diff showed for it, without what nobody could know before."""
    found: dict[str, list[str]] = {}
    task = ""
    for line in output.splitlines():
        begun = re.match(r"TASK \[(?:[\w.]+ : )?(.*?)\] \*", line)
        task = begun[1] if begun else task
        if re.match(r"[-+ ] ", line) and not re.match(r"(---|\+\+\+) ", line) and not UNKNOWN.match(line):
            found.setdefault(task, []).append(line.rstrip())
    return found


@pytest.mark.timeout(900)
@VERSIONS
@in_bare_world
def test_every_string_stays_what_it_is(programs: str) -> None:
    """From a bare host: forecast, run, again; each string arrives as it was written."""
    site = People()
    site.programs = Path(programs)
    note = {"attributes": {"NOTE": f"!unsafe {LITERAL}"}}
    halt = {**site.variables["nebula_images"][0], "description": f"!unsafe {LITERAL}", **note}
    odd = "!unsafe a {{ b }} {% c %} $(d)"
    template = {
        "CPU": 0.05,
        "MEMORY": 32,
        "DISK": {"IMAGE": odd, "DEV_PREFIX": "vd"},
        "NIC": {"NETWORK": odd},
        "NOTE": f"!unsafe {LITERAL}",
        "CONTEXT": {"NETWORK": "YES", "TEMPLATE": f"!unsafe {LITERAL}", "VAULT": "!vault {{ vaulted }} $NAME"},
    }
    text = HALTS.replace('"halt"', '"a {{ b }} {% c %} $(d)"').replace('"Public"', '"a {{ b }} {% c %} $(d)"')
    text = text.replace('"YES" ]', '"YES", TEXT = "{{ text }} {% %} `id`" ]')
    site.variables |= {
        "nebula_images": [{**halt, "name": odd}],
        "nebula_networks": [{**NETWORK, "name": odd, **note}],
        "nebula_templates": [{"name": odd, "template": template}, {"name": "text", "template": f"!unsafe {text}"}],
        "nebula_vms": [
            {"name": odd, "template": odd, "context": {"VM": f"!unsafe {LITERAL}", "OWN": "!vault own {{ vault }}"}},
            {"name": "text", "template": "text", **note},
        ],
    }
    arguments = ("--vault-password-file", str(site.directory / "vault"))
    code, checked = site.run("site.yml", *arguments, "--check", "--diff", "--forks", "1")
    assert code == 0 and not site.root.exists(), checked
    code, output = site.run("site.yml", *arguments, "--diff", "--forks", "50", "-e", "ansible_pipelining=false")
    assert code == 0, output
    assert set(changed_tasks(output)) - ONLY_REAL == set(changed_tasks(checked))
    assert diffs(checked) == diffs(output) and len(diffs(checked)) >= 6
    code, output = site.run("site.yml", *arguments)
    assert code == 0 and recap(output)["changed"] == 0, output
    name = odd.removeprefix("!unsafe ")
    assert site.machines() == {name: RUNNING, "text": RUNNING}
    # What begins with $ is OpenNebula's, and stands for itself in stored templates only.
    known = LITERAL.replace("$NAME", name)
    for line in (f"TEMPLATE={shlex.quote(known)}", f"VM={shlex.quote(known)}", "OWN='own {{ vault }}'"):
        assert sh(line) in map(sh, site.context(0).splitlines()), site.context(0)
    assert "TEXT='{{ text }} {% %} `id`'" in site.context(1)
    for table in ("images", "templates", "networks", "vms"):
        rows = "\n".join(str(value) for row in site.rows(f"SELECT * FROM {table}") for value in row)
        assert "{{ lookup('pipe', 'id') }} {% raw %} {# no #} $(id)" in rows, f"{table}: {rows}"
    site.end()


def sh(line: str) -> str:
    """What a shell makes of the word."""
    return "".join(shlex.split(line))


# From files that hosts have, read as people read them: as they are registered, and by way of another host's variables
# and of JSON, where ansible-core before 2.19 forgets what it knew of them.
TRIED = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.slurp: {src: TOLD}
      register: told
    - ansible.builtin.slurp: {src: KEY}
      register: key
    - ansible.builtin.add_host: {name: other}
    - ansible.builtin.set_fact:
        told: "{{ told.content | b64decode | from_json }}"
        key: "{{ key.content | b64decode | trim }}"
      delegate_to: other
      delegate_facts: true
"""
KINDS = ("preseed", "kickstart", "autoinstall", "autoyast", "autounattend")


@pytest.mark.timeout(300)
@VERSIONS
@in_bare_world
def test_data_from_outside_runs_nothing(programs: str) -> None:
    """Whatever plugins make of it, facts that are set to it, and then used, run nothing."""
    site = Case()
    site.programs = Path(programs)
    place = Path(tempfile.mkdtemp(dir=site.directory))
    (place / "files").mkdir()
    (place / "templates").symlink_to(ROOT / "roles/install_os/templates")
    (place / "files/own.cfg.j2").write_text("{{ install.name }} {{ mine }}")
    ran = place / "ran"
    text = f"{{{{ lookup('pipe', 'echo ran >>{ran}') }}}}"
    (place / "key.pub").write_text(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 {text}\n")
    given = {"filters": outside.filters(text), "actions": outside.actions(text, str(site.directory / "none"))}
    (place / "told.json").write_text(json.dumps(given | {"typed": text}))
    (play,) = yaml.safe_load(TRIED.replace("TOLD", str(place / "told.json")).replace("KEY", str(place / "key.pub")))
    play["vars"] = {
        "mine": "of the administrator: {{ 6 * 7 }}",
        "far": "{{ hostvars['other'].told | to_json | from_json }}",
        "near": "{{ told.content | b64decode | from_json }}",
        "keys": {
            "far": "{{ hostvars['other'].key | to_json | from_json }}",
            "near": "{{ key.content | b64decode | trim }}",
        },
    }
    facts: dict[str, str] = {}
    for way in ("far", "near"):
        for name in given["filters"]:
            handed = f"{way}.filters['{name}']"
            facts[f"{name} {way}"] = f"{{{{ {handed}[0] | nebula.provision.{name}(*{handed}[1:]) }}}}"
        facts[f"answers {way}"] = f"{{{{ lookup('nebula.provision.install_answers', installs.{way}) }}}}"
        facts[f"secret {way}"] = f"{{{{ lookup('nebula.provision.secret', '{way}') }}}}"
    # As a survey sets it: a variable like any other.
    play["vars"] |= {"answer_typed": text, "nebula_secrets": {way: f"{{{{ {way}.typed }}}}" for way in ("far", "near")}}
    facts["answer"] = "{{ lookup('nebula.provision.answer', 'answer_typed') }}"
    facts["unresolved"] = "{{ query('nebula.provision.unresolved', 'odd') }}"
    for name, options in given["actions"].items():
        handed = {option: f"{{{{ far.actions.{name}.{option} }}}}" for option in options}
        task = {
            f"nebula.provision.{name}": handed,
            "check_mode": True,
            "ignore_errors": True,
            "register": f"did_{name}",
        }
        play["tasks"].append(task)
        facts[name] = f"{{{{ did_{name} }}}}"
    play["vars"] |= {"odd": {text: "{{ nowhere }}"}, "installs": {way: installations(way) for way in ("far", "near")}}
    made = {f"made_{number}": expression for number, expression in enumerate(facts.values())}
    play["tasks"].append({"ansible.builtin.set_fact": made})
    used = "{{ {" + ", ".join(f"'{name}': {fact}" for name, fact in zip(facts, made)) + "} | to_json }}"
    play["tasks"].append({"ansible.builtin.copy": {"content": used, "dest": str(place / "used.json"), "mode": "0600"}})
    (place / "play.yml").write_text(yaml.safe_dump([play]))
    here = "ansible_connection=local ansible_python_interpreter=/usr/bin/python3"
    code, output = site.run(str(place / "play.yml"), "-i", "localhost,", "-e", here)
    assert code == 0 and not ran.exists(), output
    found = json.loads((place / "used.json").read_text())
    for name in facts:
        # A page of HTML has quotes as entities.
        shown = html.unescape(strings_of(found[name]))
        strict = name in given["actions"] or name.partition(" ")[0] in {"answers", *outside.STRICT}
        assert strict or text in shown, name
    for way in ("far", "near"):
        answers = found[f"answers {way}"]
        answers = json.loads(answers) if isinstance(answers, str) else answers
        assert len(answers) == len(KINDS) + 1, list(answers)
        for name, rendered in answers.items():
            # Each kind quotes in its own way what stands around it; what the administrator wrote as a template was one.
            assert "echo ran" in rendered and ("administrator: 42" in rendered or name == "autounattend"), rendered


def installations(way: str) -> list[dict[str, Any]]:
    """One of each kind, with a key as it was read, and one with answers of the administrator's own."""
    key = f"{{{{ keys.{way} }}}}"
    given: dict[str, dict[str, Any]] = {kind: {"ssh_keys": [key], "extra": "x: '{{ mine }}'"} for kind in KINDS}
    given["autounattend"] = {"late_commands": [key], "password": "x"}
    own = {"name": key, "answers": {"kind": "preseed", "file": "files/own.cfg.j2"}}
    return [*({"name": kind, "answers": {"kind": kind, **answers}} for kind, answers in given.items()), own]


def strings_of(value: Any) -> str:
    """All that is said in it, one line each."""
    if isinstance(value, dict):
        return "\n".join(strings_of(item) for pair in value.items() for item in pair)
    return "\n".join(map(strings_of, value)) if isinstance(value, list) else str(value)


# Of each role that says why it can't begin, the list that is read first.
LISTS = {
    "demo_image": "nebula_images", "guest_context": "nebula_guest_images", "image": "nebula_images",
    "image_check": "nebula_image_checks", "image_prepare": "nebula_image_prepares", "install_os": "nebula_installs",
    "network": "nebula_networks", "node": "nebula_luks_secrets", "template": "nebula_templates", "vm": "nebula_vms",
}  # fmt: skip


@pytest.mark.timeout(300)
@VERSIONS
@in_bare_world
def test_a_slip_beside_a_password_does_not_show_it(programs: str) -> None:
    """A slip in a list that holds passwords, at -vvvv, in each role that takes a list."""
    site = Case()
    site.programs = Path(programs)
    canaries = Canaries("word", "whole")
    place = Path(tempfile.mkdtemp(dir=site.directory))
    written = "".join(
        f"{name}:\n  - name: web\n    word: {canaries.core('word')}\n    slip: '{{{{ no_such_word }}}}'\n"
        for name in sorted({*LISTS.values()} - {"nebula_templates"})
    )
    # Of one, the whole is a template.
    written += f"nebula_templates: \"{{{{ [{{'name': '{canaries.core('whole')}'}}] + no_such_word }}}}\"\n"
    (place / "variables.yml").write_text(written)
    tasks: list[dict[str, Any]] = [
        {
            "block": [{"ansible.builtin.include_role": {"name": f"nebula.provision.{role}"}}],
            "rescue": [{"ansible.builtin.debug": {"msg": "rescued"}}],
        }
        for role in LISTS
    ]
    if Path(programs) != FLOOR:
        # Before 2.19 Ansible fills a list in, and fails, before a filter is asked.
        shown = {"ansible.builtin.debug": {"msg": "{{ nebula_vms | nebula.provision.packed }}"}, "no_log": True}
        tasks += [{**shown, "ignore_errors": True}]
    play = {"hosts": "node1", "gather_facts": False, "vars_files": ["variables.yml"], "tasks": tasks}
    (place / "play.yml").write_text(yaml.safe_dump([play]))
    code, output = site.run(str(place / "play.yml"), "-vvvv")
    assert code == 0 and output.count('"msg": "rescued"') == len(LISTS), output
    assert canaries.seen(output) == {}, output
    for name in LISTS.values():
        place_of = "nebula_templates" if name == "nebula_templates" else f"{name}[0].slip"
        assert f"{place_of}: variable no_such_word is undefined" in output, output
    assert Path(programs) == FLOOR or "packed: variable no_such_word is undefined" in output, output


def tasks(output: str) -> list[str]:
    """Names of the tasks that ran somewhere, without their roles."""
    found, task = [], ""
    for line in output.splitlines():
        begun = re.match(r"TASK \[(?:[\w.]+ : )?(.*?)\] \*", line)
        task = begun[1] if begun else task
        if re.match(r"(ok|changed|fatal|failed|included): ", line) and task not in found:
            found.append(task)
    return found


class Spread(Case):
    """The front-end under a name of its own, a node that is there, and one that is not."""

    far = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}

    def inventory(self, **changes: Any) -> Path:
        lost, gone = changes.pop("lost", ("node2",)), changes.pop("gone", ())
        inventory = super().inventory(**changes)
        here = {**self.variables, **changes}
        names = ("frontend", "node1", "node2")
        hosts = {name: {**here, **(self.far if name in lost else {})} for name in names}
        nodes = [name for name in ("node1", "node2") if name not in gone]
        groups = {"nebula_frontend": ["frontend"], "nebula_nodes": nodes}
        plain = {group: {"hosts": {name: hosts[name] for name in members}} for group, members in groups.items()}
        inventory.write_text(json.dumps(plain))
        return inventory


@pytest.mark.timeout(900)
@in_bare_world
def test_parts_of_hosts_and_work() -> None:
    """Of the hosts and of the work, senseless ones too: what is there is done, what is missing is said."""
    site = Spread()
    web = {"name": "web", "template": "web", "hard": True}
    code, output = site.run("site.yml", "--limit", "node1", nebula_vms=[web])
    assert code == 0 and site.machines() == {"web": RUNNING}, output

    # By tags: as a whole run does it, with the failure of a bad machine, and nothing of the other roles.
    bad = {"name": "bad", "template": "wbe"}
    code, output = site.run("site.yml", "--tags", "vm", nebula_vms=[{**web, "name": "more"}, bad])
    assert code != 0 and "VM bad: template 'wbe'" in output, output
    assert re.search(r"more +node1 +RUNNING", output), "the table is shown, and what can be done was done"
    assert not {"Keep the images in the catalog, and their files in the datastore", "Make the node ready"} & set(
        tasks(output)
    )
    late = {
        "nebula_images": [{"name": "late", "path": site.variables["nebula_images"][0]["path"]}],
        "nebula_templates": [{"name": "late", "template": HALTS}],
        "nebula_vms": [bad],
    }
    names = "SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM templates)"
    for tag, count in (("image", (2, 1)), ("template,network", (2, 2))):
        code, output = site.run("site.yml", "--limit", "node1", "--tags", tag, **late)
        assert code == 0 and "Decide what becomes of each machine" not in tasks(output), output
        assert site.rows(names) == [count]
    lost = {
        "nebula_images": [{"name": "lost", "path": "/nowhere/x"}],
        "nebula_templates": [{"name": "lost", "template": 7}],
    }
    site.refused("image lost: path /nowhere/x", arguments=("--limit", "node1", "--tags", "image"), **lost)
    site.refused("template lost", arguments=("--limit", "node1", "--tags", "template"), **lost)
    site.refused("run both (with tags: --tags vm)", arguments=("--tags", "verify"), nebula_verify=True)

    # What only makes sense as a whole.
    site.environment = {"ANSIBLE_STRATEGY": "free"}
    site.refused("the strategy linear", nebula_vms=[web])
    site.environment = {}
    # Begun behind the plays that look and prepare: what the node does is what counts.
    late_start = ("--start-at-task", "Observe and decide")
    code, output = site.run("site.yml", *late_start, gone=("node2",), nebula_vms=[web])
    assert code == 0 and re.search(r"web +node1 +RUNNING", output), output

    # Nobody there: said, and nothing is given up for it.
    nobody = ("node1", "node2")
    code, output = site.run("playbooks/status.yml", lost=nobody)
    assert code == 0 and "as of the last run: no node answered" in output, output
    assert re.search(r"web +node1 +UNKNOWN .* host node1 did not answer", output), output
    # In the words of what can't be reached; and of itself as it was once it can.
    assert re.search(r" node1 +kvm +ERROR .*Connection refused", output), output
    code, output = site.run("playbooks/status.yml", "--check")
    assert code == 0 and re.search(r" node1 +kvm +MONITORED .* -\n", output), output
    for lost, told in ((nobody, "Connection refused"), (("frontend", *nobody), "node1, node2 did not answer")):
        code, output = site.run("playbooks/teardown.yml", lost=lost)
        assert code != 0 and told in output and site.root.exists(), output
    code, output = site.run("playbooks/teardown.yml")
    assert code != 0 and "Teardown: node2 did not answer" in output and site.root.exists(), output
    # The second node is gone for good; the first is not.
    code, output = site.run("playbooks/forget_host.yml", "-e", "nebula_lost_host=node1")
    assert code != 0 and "Host node1 answers: it is not gone" in output, output
    assert site.rows("SELECT name FROM hosts") == [("node1",)], "the second never was in the catalog"
    code, output = site.run("playbooks/forget_host.yml", "-e", "nebula_lost_host=node2")
    assert code == 0 and "Forgotten with host node2" in output, output
    code, output = site.run("playbooks/teardown.yml", gone=("node2",))
    assert code == 0 and not site.root.exists(), output


class Elsewhere(Case):
    """A copy of the checkout in an odd place, run without its ansible.cfg being named."""

    def runs_with(self) -> dict[str, str]:
        environment = super().runs_with()
        environment.pop("ANSIBLE_CONFIG")
        return {name: value for name, value in environment.items() if name not in OUTER}

    def make(self, target: str) -> str:
        folder = self.directory / "an inventory"
        folder.mkdir(exist_ok=True)
        inventory = self.inventory().rename(folder / "hosts.yml")
        code, output = self.execute(["make", "-o", "run-venv", target, f"INVENTORY={inventory}"])
        assert code == 0, output
        return output


def copied(directory: Path) -> Path:
    """The checkout, everything that git has of it."""
    copy = directory / "a folder with blanks"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in os.fsdecode(files).split("\0")[:-1]:
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    (copy / ".venv").symlink_to(CURRENT.parent)
    copy.chmod(0o777)
    return copy


@pytest.mark.timeout(900)
@in_bare_world
def test_an_ordinary_login_and_odd_places() -> None:
    """A world-writable checkout in a folder with blanks, an ordinary login by ssh with sudo, and a Python first on its
    PATH that has no libraries and is called like a newer one."""
    site = Elsewhere()
    site.checkout = copied(site.directory)
    python = site.directory / "python"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(python)], check=True)
    for name in ("python3.12", "python3.13"):
        (python / "bin" / name).symlink_to(python / "bin/python3")
    word = "aWordOfTheContext"
    site.variables["nebula_vms"] = [{"name": "web", "template": "web", "hard": True, "context": {"TOKEN": word}}]
    del site.variables["ansible_python_interpreter"]
    backups = {"nebula_backup_directory": str(site.directory / "backups")}
    with a_login(site.directory, f"{python}/bin:/usr/bin:/bin") as login:
        site.variables |= login
        output = site.make("site")
        assert f"{python}/bin/python3" in output, (
            f"the other Python was not found first, so nothing is proven\n{output}"
        )
        assert site.machines() == {"web": RUNNING}
        code, output = site.run("site.yml")
        assert code == 0 and recap(output)["changed"] == 0 and "world writable" in output, output
        # By ssh, and read by root: Ansible shows at -vvv what its modules answer.
        kept = site.directory / "kept"
        code, output = site.run("playbooks/backup.yml", "-vvvv", "-e", f"nebula_backup_fetch={kept}", **backups)
        assert code == 0 and not ways(word, output), output
        (copy,) = kept.glob("*.db")
        assert ways(word, copy.read_bytes()) and stat.S_IMODE(copy.stat().st_mode) == 0o600
        kept.rename(site.directory / "moved")
        kept.write_text("in the way")
        code, output = site.run("playbooks/backup.yml", "-e", f"nebula_backup_fetch={kept}/x", **backups)
        assert code != 0, output
        home = site.directory / "login/home"
        assert [path for path in home.rglob("*") if path.is_file()] == [], "left behind by a run"
        # Root's work as somebody else: refused in words, and nothing is half done.
        site.refused(
            "Permission denied. Run this task with become: true", arguments=("-e", "ansible_become_user=operator")
        )
        site.make("teardown")
    assert not site.root.exists()


@in_bare_world
def installed(artifact: str) -> None:
    """From the built artifact, by the playbooks' full names, with lists as text: an AWX survey's answers are."""
    site = Elsewhere()
    # Not in the checkout, whose ansible.cfg says that the collection is there.
    site.checkout = site.directory
    collections = site.directory / "installed"
    install = [str(site.programs / "ansible-galaxy"), "collection", "install", artifact, "-p", str(collections)]
    install.append("--offline")
    code, output = site.execute(install)
    assert code == 0 and (collections / "ansible_collections/nebula/provision/playbooks/site.yml").exists(), output
    site.environment = {"ANSIBLE_COLLECTIONS_PATH": str(collections)}
    text = json.dumps([{"name": "web", "template": "web", "hard": True, "context": {"A": "{{ b }}"}}])
    lists = ("nebula_images", "nebula_networks", "nebula_templates")
    survey = {name: json.dumps(site.variables.pop(name)) for name in lists}
    survey |= {"nebula_vms": text.replace("{{ b }}", "b"), "nebula_verify": "false", "nebula_reserved_memory": "0"}
    code, output = site.run("nebula.provision.site", "-e", json.dumps(survey))
    assert code == 0 and site.machines() == {"web": RUNNING}, output
    code, output = site.run("nebula.provision.teardown")
    assert code == 0 and not site.root.exists(), output


@pytest.mark.timeout(900)
def test_installed_from_the_artifact(tmp_path):
    build = [str(CURRENT / "ansible-galaxy"), "collection", "build", "--output-path", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    artifact = next(tmp_path.glob("*.tar.gz"))
    installed(artifact=str(artifact))


# What becomes another host, with a link of its own and its sshd.
FAR = """
set -e
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip address add 10.78.0.2/24 dev eth0
ip link set eth0 up
ip link set lo up
exec /usr/sbin/sshd -D -e -f {place}/config
"""


@contextlib.contextmanager
def a_far_host(place: Path) -> Iterator[dict[str, Any]]:
    """Its variables, and how its link is cut: nothing is answered any more, and nobody is told."""
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / key)], check=True)
    # Below another shell: bash reads the .bashrc of a login over ssh, and root's may hold anything.
    (place / "config").write_text(
        f"ListenAddress 10.78.0.2\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nSetEnv SHLVL=2\nPermitRootLogin prohibit-password\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    argv = ["unshare", "-n", "sh", "-c", FAR.format(place=place)]
    with (place / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as host:
        try:
            own = os.readlink("/proc/self/ns/net")
            wait_for(lambda: os.readlink(f"/proc/{host.pid}/ns/net") != own, "a network of its own")
            for words in (
                ["link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", str(host.pid)],
                ["address", "add", "10.78.0.1/24", "dev", "far"],
                ["link", "set", "far", "up"],
            ):
                subprocess.run(["ip", *words], check=True)
            yield {
                "host": {
                    "ansible_connection": "ssh",
                    "ansible_host": "10.78.0.2",
                    "ansible_user": "root",
                    "ansible_ssh_private_key_file": str(place / "user"),
                    "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
                    "ansible_python_interpreter": "/usr/bin/python3",
                },
                "cut": ["nsenter", "-t", str(host.pid), "-n", "ip", "link", "set", "eth0", "down"],
            }
        finally:
            host.terminate()


@pytest.mark.timeout(300)
@in_bare_world
def test_a_run_after_the_link_dropped() -> None:
    """By the options of the checkout's ansible.cfg, with seconds in the place of their quarters of a minute."""
    place = Path(os.environ["NEBULA_WORLD"], "far")
    place.mkdir()
    options = re.search(r"^ssh_args = (.*)$", (ROOT / "ansible.cfg").read_text(), re.MULTILINE)
    assert options
    quick = re.sub(r"(ServerAliveInterval)=15", r"\1=1", options[1])
    assert quick != options[1]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_SSH_ARGS": quick,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(place / "kept"),
    }
    with a_far_host(place) as far:
        inventory = place / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"far": far["host"]}}}))
        argv = [
            str(CURRENT / "ansible"),
            "all",
            "-i",
            str(inventory),
            "-m",
            "ansible.builtin.setup",
            "-a",
            "gather_subset=!all",
        ]

        def run() -> tuple[int, str]:
            done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=90)
            return done.returncode, done.stdout + done.stderr

        wait_for(lambda: run()[0] == 0, "the first run")
        kept = list((place / "kept").iterdir())
        assert len(kept) == 1, "the connection was not kept, so nothing is proven"
        subprocess.run(far["cut"], check=True)
        began = time.monotonic()
        code, output = run()
        took = time.monotonic() - began
        assert code == 4 and "UNREACHABLE" in output, output
        # Four questions, and the ten seconds that a new connection has.
        assert took < 40, f"it took {took:.0f} s"
