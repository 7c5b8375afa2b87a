# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages that the documents quote are messages that the product says, and links lead somewhere."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.module_utils.arguments import ENGINE
from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.model.host import Host
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.network import KEYS
from ansible_collections.nebula.provision.plugins.module_utils.network.northbound import desired_checks
from ansible_collections.nebula.provision.plugins.modules import nebula_network

ROOT = Path(__file__).resolve().parents[2]
RECOVERY = ROOT / "docs" / "recovery.md"
TENANTS = ROOT / "docs" / "tenants.md"
# Where an error's three parts, and lists within them, are joined.
JOINTS = re.compile(r"<[^<>]+>|…|: |\. |; |, ")


@lru_cache(maxsize=1)
def said() -> str:
    """Every text that plugins, roles and playbooks hold, one a line."""
    texts = []
    for path in (ROOT / "plugins").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    for place in ("roles", "playbooks"):
        texts += [path.read_text(encoding="utf-8") for path in (ROOT / place).rglob("*.yml")]
    return "\n".join(" ".join(text.split()) for text in texts)


def quoted(document: Path) -> Iterator[str]:
    """The fenced messages: blocks marked `text`."""
    for block in re.findall(r"^ *```text\n(.*?)^ *```$", document.read_text(encoding="utf-8"), re.M | re.S):
        yield " ".join(block.split())


def pieces(message: str) -> list[str]:
    return [piece.strip(" .") for piece in JOINTS.split(message) if len(piece.strip(" .")) > 3]


def test_recovery_quotes_messages():
    assert len(list(quoted(RECOVERY))) > 20


@pytest.mark.parametrize("message", list(quoted(RECOVERY)), ids=lambda m: m[:60])
def test_a_quoted_message_is_said(message):
    missing = [piece for piece in pieces(message) if piece not in said()]
    assert not missing, f"docs/recovery.md quotes what nothing says: {missing}"


def test_an_invented_message_is_noticed():
    assert [piece for piece in pieces("image <name>: the moon is not <in> its phase") if piece not in said()]


# Programs that follow what a header names, or whose own faults a damaged file system finds, as whoever runs them.
OPENS = re.compile(r"qemu-img (amend|check|commit|convert|info|map|rebase|resize)|\bfsck|e2fsck|xfs_repair")


def test_no_error_tells_to_open_what_was_refused():
    """A remedy is followed as it stands, and by root."""
    assert OPENS.search("Convert it first: qemu-img convert -O qcow2") and OPENS.search("Repair them (fsck)")
    found = []
    for path in sorted((ROOT / "plugins/module_utils").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, (ast.Call, ast.Assign)):
                texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                found += [f"{path.name}: {text}" for text in texts if OPENS.search(text)]
    assert found == []


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_shows_the_table_that_is_printed():
    """Its columns are those of the report, and its recap has Ansible's words."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    report = (ROOT / "roles/vm/tasks/report.yml").read_text(encoding="utf-8")
    columns = re.search(r"columns: \[(.*)\]", report)
    assert columns
    titles = [column.rpartition("=")[2] for column in columns[1].split(", ")]
    assert "  ".join(title.upper() for title in titles) in re.sub(r" {2,}", "  ", readme)
    assert re.search(r"^demo +: ok=\d+ +changed=\d+ +unreachable=0 +failed=0 +skipped=\d+ ", readme, re.MULTILINE)
    shown = re.findall(r"^TASK \[nebula\.provision\.(\w+) : (.*?)\]", readme, re.MULTILINE)
    assert shown
    for role, task in shown:
        told = "".join(path.read_text() for path in (ROOT / "roles" / role / "tasks").glob("*.yml"))
        assert f"- name: {task}\n" in told, f"role {role} has no task {task!r}"


def test_a_checkout_asks_for_facts_once():
    """By host and run, also of one that is front-end and node."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "ansible.cfg")
    assert settings["defaults"]["gathering"] == "smart"
    assert settings.getboolean("connection", "pipelining")


def seconds_until_a_dead_link_is_noticed(ssh_args):
    """ssh keeps asking only where it is told to; a connection that is kept outlives the run."""
    found = dict(re.findall(r"-o (\w+)=(\w+)", ssh_args))
    assert found["ControlMaster"] == "auto" and found["ControlPersist"] == "60s"
    return int(found["ServerAliveInterval"]) * int(found["ServerAliveCountMax"])


def test_a_checkout_notices_a_dead_link(tmp_path):
    """As Ansible itself reads it, wherever the user's own settings are."""
    program = Path(sys.executable).with_name("ansible-config")
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "HOME": str(tmp_path),
    }
    dump = [str(program), "dump", "--type", "connection", "--only-changed", "--format", "json"]
    done = subprocess.run(dump, capture_output=True, text=True, env=environment, check=True)
    (ssh,) = (each["ssh"] for kind in json.loads(done.stdout) for each in [kind] if "ssh" in each)
    (args,) = (option["value"] for option in ssh if option["name"] == "ssh_args")
    assert seconds_until_a_dead_link_is_noticed(args) == 60


def test_each_project_that_is_shown_notices_a_dead_link():
    """Whatever shows an ansible.cfg, or keeps connections, in documents and examples."""
    shown = []
    for place in ("README.md", "docs", "extensions", "inventories", "roles", "playbooks"):
        paths = [ROOT / place] if place.endswith(".md") else sorted((ROOT / place).rglob("*.*"))
        for path in paths:
            if path.suffix in (".md", ".yml", ".cfg", ".ini", ".j2") and path.is_file():
                text = path.read_text(encoding="utf-8")
                shown += re.findall(r"^ssh_args *=.*$|^.*ControlPersist=.*$", text, re.MULTILINE)
    assert shown
    assert [seconds_until_a_dead_link_is_noticed(line) for line in shown] == [60] * len(shown)


# --- the guide to tenants' networks -----------------------------------------------------------------------------------
def group_vars(file: str) -> dict[str, list[dict]]:
    """The block of the guide that is the file of this name."""
    block = re.search(
        rf"^```yaml\n# group_vars/all/{file}\n(.*?)^```$", TENANTS.read_text(encoding="utf-8"), re.M | re.S
    )
    assert block
    return yaml.safe_load(block[1])


def carried_out(root: Path, lists: dict[str, list[dict]], check: bool = False):
    """What role network does with the lists in the catalog."""
    params = {
        **dict.fromkeys([*KEYS, *ENGINE]),
        "engine": "embedded",
        "root": str(root),
        "undo": None,
        "inner_mtus": {},
    }
    names = {
        "networks": "nebula_networks",
        "with_security_groups": "nebula_security_groups",
        "with_routers": "nebula_routers",
    }
    result = nebula_network.call.run({**params, **{name: lists.get(of, []) for name, of in names.items()}}, check)
    assert [str(item.error) for item in result.items if item.error] == [] and result.warnings == []
    return result


def changed(result) -> list[str]:
    return [item.name for item in result.items if item.is_changed]


def test_the_tenants_of_the_guide_come_about(tmp_path):
    lists = group_vars("tenants.yml")
    with closing(EmbeddedEngine(str(tmp_path), create=True)) as engine, engine.session():
        engine.hosts.allocate(Host(None, "node1", memory=1024))
    forecast = carried_out(tmp_path, lists, check=True)
    made = carried_out(tmp_path, lists)
    assert changed(forecast) == changed(made) and len(changed(made)) == 6
    assert changed(carried_out(tmp_path, lists)) == []
    with closing(EmbeddedEngine(str(tmp_path))) as engine, engine.session():
        logical = engine.networks.logical()
    desired_checks.refuse(logical)
    assert [(n.name, n.cidr4, n.dhcp, n.physical_network) for n in logical.networks] == [
        ("public", "172.24.1.0/24", False, "physnet1"),
        ("openstack-net", "192.168.0.0/24", True, ""),
        ("other-net", "192.168.0.0/24", True, ""),
    ]
    first, second = made.payload["routers"]
    assert [each.name for each in logical.routers if each.snat] == [first["name"], second["name"]]
    addresses = [first["gateway"]["ip"], first["floating"][0]["ip"], second["gateway"]["ip"]]
    assert addresses == ["172.24.1.100", "172.24.1.101", "172.24.1.102"]
    text = TENANTS.read_text(encoding="utf-8")
    assert [address for address in addresses if address not in text] == []
    # And all of it goes as the guide says.
    taken = {**lists, "nebula_routers": [{**router, "floating": []} for router in lists["nebula_routers"]]}
    carried_out(tmp_path, taken)
    absent = {kind: [{"name": item["name"], "state": "absent"} for item in items] for kind, items in lists.items()}
    assert len(changed(carried_out(tmp_path, absent))) == 6


def within(part, whole) -> bool:
    """Whether all that part says is so in whole."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and within(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(within(each, other) for other in whole) for each in part)
    return part == whole


def test_each_step_of_the_guide_is_in_its_block():
    rows = re.findall(r"^\| (\d)\. .* \| `neutron .*` \| (.*) \|$", TENANTS.read_text(encoding="utf-8"), re.M)
    assert [number for number, _keys in rows] == list("1234567")
    items = [item for items in group_vars("tenants.yml").values() for item in items]
    for number, cell in rows:
        parts = [yaml.safe_load(code) for code in re.findall(r"`(\{.*?\})`", cell)]
        assert parts, number
        assert [keys for keys in parts if not any(within(keys, item) for item in items)] == [], number
    names = {name for mapping in group_vars("ovn.yml")["nebula_ovn_bridge_mappings"] for name in [mapping["network"]]}
    assert names == {item["physical_network"] for item in items if "physical_network" in item}


def test_each_row_of_who_may_do_what_names_tests_that_there_are() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    table = text[text.index("## Who may do what to whom") :].partition("\n## Whose")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| ")
    ]
    assert rows[0] == ["from → to", "held", "by", "test", "not held"] and len(rows) > 12
    known = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    for pair, held, _by, tests, _not in rows[1:]:
        named = [name for name in tests.split(", ") if name]
        assert named or held.startswith("nothing"), pair
        assert set(named) <= known, f"{pair}: {set(named) - known}"


def test_the_page_of_variables_has_each_role_that_has_some() -> None:
    specs = {path.parts[-3]: yaml.safe_load(path.read_text()) for path in ROOT.glob("roles/*/meta/argument_specs.yml")}
    roles = {name for name, spec in specs.items() if spec["argument_specs"]}
    found = re.findall(r"^## Role `(\w+)`$", (ROOT / "docs/variables.md").read_text(encoding="utf-8"), re.M)
    assert sorted(found) == sorted(roles)


def test_names_with_patterns_are_quoted_for_a_shell() -> None:
    """zsh ends a command in whose unquoted pattern no file is found, and others put the names of files in its place."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "roles").glob("*/README.md")]
    found = {str(page): re.findall(r"-e vm=\S*[*?\[]\S*", page.read_text(encoding="utf-8")) for page in pages}
    assert {name: words for name, words in found.items() if words} == {}
