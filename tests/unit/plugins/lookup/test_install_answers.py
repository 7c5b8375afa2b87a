# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of role install_os as Ansible renders them, by the installers' own checkers where these can be had."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from ansible_collections.nebula.provision.plugins.lookup import install_answers

ROOT = Path(__file__).resolve().parents[4]
HASH = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl admin@"it\'s" <here>'
STATIC = {"address": "10.66.0.20", "gateway": "10.66.0.1", "nameservers": ["10.66.0.1", "10.66.0.2"]}
FULL = {
    "hostname": "web", "domain": "example.org", "user": "ops", "user_fullname": "The <Ops> & Co", "password_hash": HASH,
    "root_password_hash": HASH, "ssh_keys": [KEY], "packages": ["vim", "curl"], "timezone": "Europe/Berlin",
    "keyboard": "de", "locale": "de_DE.UTF-8", "mirror": "http://mirror.example.org:8080/some/debian",
    "proxy": "http://proxy.example.org:3128/", "late_commands": ["echo 'it is' \"done\" & > /root/it"], **STATIC,
}  # fmt: skip
WINDOWS = {
    "hostname": "web-windows-server", "user": "Ops", "password": "p<&>\"'w", "product_key": "AAAAA-BBBBB",
    "keyboard": "0407:00000407", "image_name": "Windows Server 2022 SERVERSTANDARD",
    "late_commands": ["cmd /c echo <it> & echo"],
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    f"{kind}-{form}-{firmware}": {
        "name": f"{kind}-{form}-{firmware}",
        "firmware": firmware,
        "end": end,
        "answers": {"kind": kind, **(answers if form == "full" else smallest)},
    }
    for kind, answers, smallest in (
        ("preseed", FULL, {"password_hash": HASH}),
        ("kickstart", FULL, {"ssh_keys": KEY.replace('"', "")}),
        ("autoinstall", FULL, {"password_hash": HASH}),
        ("autoyast", FULL, {"root_password_hash": HASH, "user": ""}),
        ("autounattend", WINDOWS, {"password": "secret"}),
    )
    for form, firmware, end in (("full", "UEFI", "poweroff"), ("least", "BIOS", "reboot"))
}
CASES["autounattend-drivers"] = {
    "name": "autounattend-drivers",
    "drivers": "virtio",
    "answers": {"kind": "autounattend", **WINDOWS},
}
CASES["own"] = {"name": "own", "answers": {"kind": "preseed", "file": "own.cfg"}}
CASES["own-template"] = {"name": "own-template", "answers": {"kind": "preseed", "file": "own.cfg.j2"}}
CASES["by-hand"] = {"name": "by-hand"}
CASES["wrong"] = {"name": "wrong", "answers": {"kind": "presed"}}
BAD = {
    "missing": {"kind": "preseed", "file": "nowhere.cfg"},
    "undefined": {"kind": "preseed", "file": "undefined.cfg.j2"},
    "syntax": {"kind": "preseed", "file": "syntax.cfg.j2"},
    "netmask": {"kind": "preseed", "password_hash": HASH, "address": "10.66.0.20", "netmask": "x"},
}
CASES.update({name: {"name": name, "answers": answers} for name, answers in BAD.items()})
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    installs: "{{ lookup('ansible.builtin.file', 'installs.json') | from_json }}"
    mine: of the play
  tasks:
    - ansible.builtin.copy:
        content: "{{ lookup('nebula.provision.install_answers', installs) }}"
        dest: "{{ playbook_dir }}/answers.json"
        mode: "0600"
    - ansible.builtin.copy:
        content: "{{ lookup('nebula.provision.install_answers', installs, only=['own', 'by-hand']) }}"
        dest: "{{ playbook_dir }}/only.json"
        mode: "0600"
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("answers")
    (place / "templates").symlink_to(ROOT / "roles/install_os/templates")
    (place / "play.yml").write_text(PLAY)
    (place / "installs.json").write_text(json.dumps(list(CASES.values())))
    (place / "own.cfg").write_text("d-i {{ not/rendered }} string\n")
    (place / "undefined.cfg.j2").write_text("d-i {{ no_such_variable }}\n")
    (place / "syntax.cfg.j2").write_text("d-i {% if %}\n")
    (place / "own.cfg.j2").write_text("d-i {{ install.hostname }} {{ install.finished }} {{ mine }}\n")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "LC_ALL": "C.UTF-8",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(place / "play.yml")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(json.loads((place / "only.json").read_text())) == ["own"]
    return json.loads((place / "answers.json").read_text())


def of_kind(kind: str) -> list[str]:
    return [name for name in CASES if name.startswith(f"{kind}-")]


def test_those_without_answers_have_none(answers):
    assert set(CASES) - set(answers) == {"by-hand", "wrong"}


def test_own_files(answers):
    assert answers["own"] == "d-i {{ not/rendered }} string\n"
    assert answers["own-template"].strip() == "d-i own-template nebula-install: finished of the play"


def test_what_can_not_be_rendered_keeps_no_other_from_it(answers):
    said = {name: answers[name]["error"] for name in BAD}
    assert said["missing"] == "file nowhere.cfg: it is not on the control node"
    assert "no_such_variable" in said["undefined"] and "undefined" in said["undefined"]
    assert said["syntax"] and said["netmask"].startswith("address, netmask: ")


def test_a_template_is_not_quoted():
    """As ansible-core before 2.19 does."""
    source = "rootpw S3cret\n{% if %}\n"
    for said in (
        f"template error while templating string: unexpected '%'. String: {source}. unexpected '%'",
        f"Unexpected templating type error occurred on ({source}): unsupported operand",
        f"An unhandled exception occurred while templating '{source!r}'. Error was a <class 'X'>, original message: y",
    ):
        text = install_answers.without_source(said, source)
        assert "S3cret" not in text and len(text) > 20, text


@pytest.mark.parametrize("name", of_kind("preseed"))
def test_preseed(answers, name, tmp_path):
    if shutil.which("debconf-set-selections") is None:
        pytest.skip("debconf-set-selections is Debian's")
    text = answers[name]
    file = tmp_path / "preseed.cfg"
    file.write_text(text)
    done = subprocess.run(["debconf-set-selections", "-c", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    given = preseeded(text)
    uefi = name.endswith("UEFI")
    assert given.get("grub-installer/force-efi-extra-removable") == ("true" if uefi else None)
    assert given.get("debian-installer/exit/poweroff") == ("true" if uefi else None)
    assert given["debian-installer/add-kernel-opts"] == "console=tty0 console=ttyS0,115200n8"
    assert given["preseed/late_command"].endswith("echo 'nebula-install: finished' > /dev/ttyS0")
    assert given["passwd/user-password-crypted"] == HASH
    # Each question once: the installer takes the last.
    questions = [line.split(None, 3)[1] for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(questions) == len(set(questions))


def test_preseed_of_everything(answers):
    given = preseeded(answers["preseed-full-UEFI"])
    assert (
        given["mirror/http/hostname"] == "mirror.example.org:8080" and given["mirror/http/directory"] == "/some/debian"
    )
    assert given["netcfg/get_ipaddress"] == "10.66.0.20" and given["netcfg/get_nameservers"] == "10.66.0.1 10.66.0.2"
    assert given["pkgsel/include"] == "openssh-server vim curl"
    # As a shell understands it.
    words = shlex.split(given["preseed/late_command"])
    assert KEY in words and FULL["late_commands"][0] in words
    assert given["partman-auto/disk"] == "/dev/vda"


def preseeded(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            parts = line.split(None, 3)
            found[parts[1]] = parts[3] if len(parts) > 3 else ""
    return found


@pytest.mark.parametrize("version", ["RHEL8", "RHEL9", "F39"])
@pytest.mark.parametrize("name", of_kind("kickstart"))
def test_kickstart(answers, name, version, tmp_path):
    file = tmp_path / "ks.cfg"
    file.write_text(answers[name])
    validator = Path(sys.executable).parent / "ksvalidator"
    done = subprocess.run([str(validator), "-v", version, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = answers[name].splitlines()
    assert ("poweroff" if "full" in name else "reboot") in lines
    assert any("console=ttyS0,115200n8" in line for line in lines if line.startswith("bootloader "))
    assert lines[-2:] == ["echo 'nebula-install: finished' > /dev/ttyS0", "%end"]
    assert ("BOOTX64.EFI" in answers[name]) == name.endswith("UEFI")


# What the documentation of autoinstall says of each key.
AUTOINSTALL = {
    "version": int, "interactive-sections": list, "locale": str, "keyboard": dict, "timezone": str, "identity": dict,
    "ssh": dict, "packages": list, "storage": dict, "updates": str, "late-commands": list, "shutdown": str, "apt": dict,
    "proxy": str, "network": dict, "user-data": dict,
}  # fmt: skip


@pytest.mark.parametrize("name", of_kind("autoinstall"))
def test_autoinstall(answers, name):
    text = answers[name]
    assert text.startswith("#cloud-config\n")
    given = yaml.safe_load(text)
    assert list(given) == ["autoinstall"]
    auto = given["autoinstall"]
    for key, value in auto.items():
        assert isinstance(value, AUTOINSTALL[key]), key
    assert auto["version"] == 1 and auto["interactive-sections"] == []
    assert set(auto["identity"]) == {"hostname", "realname", "username", "password"}
    assert auto["identity"]["password"] == HASH
    assert set(auto["ssh"]) == {"install-server", "authorized-keys", "allow-pw"}
    assert auto["updates"] in ("security", "all") and auto["shutdown"] == ("poweroff" if "full" in name else "reboot")
    assert auto["storage"]["layout"]["match"] == {"path": "/dev/vda"}
    assert auto["late-commands"][-1] == "echo 'nebula-install: finished' > /dev/ttyS0"
    for command in auto["late-commands"]:
        assert shlex.split(command)
    assert any("console=ttyS0,115200n8" in command for command in auto["late-commands"])
    if "full" in name:
        assert auto["network"]["ethernets"]["first"]["addresses"] == ["10.66.0.20/24"]
        assert shlex.split(auto["late-commands"][0])[-1] == FULL["late_commands"][0]
        assert auto["ssh"]["authorized-keys"] == [KEY]


@pytest.mark.parametrize("name", of_kind("autoyast"))
def test_autoyast(answers, name):
    space = {"y": "http://www.suse.com/1.0/yast2ns"}
    root = ET.fromstring(answers[name])
    assert root.tag == "{http://www.suse.com/1.0/yast2ns}profile"

    def text(path: str) -> list[str]:
        return [each.text or "" for each in root.findall(path, space)]

    assert text("y:general/y:mode/y:confirm") == ["false"]
    assert text("y:general/y:mode/y:final_halt") == ["true" if "full" in name else "false"]
    assert text("y:partitioning/y:drive/y:device") == ["/dev/vda"] and text("y:partitioning/y:drive/y:use") == ["all"]
    assert text("y:bootloader/y:loader_type") == ["grub2-efi" if "UEFI" in name else "grub2"]
    assert "console=ttyS0,115200n8" in text("y:bootloader/y:global/y:append")[0]
    assert text("y:users/y:user/y:user_password")[0] == HASH
    script = text("y:scripts/y:chroot-scripts/y:script/y:source")[0].splitlines()
    assert script[-1] == "echo 'nebula-install: finished' > /dev/ttyS0"
    assert text("y:software/y:products/y:product") == ["Leap"]
    # Lists say that they are.
    kind = "{http://www.suse.com/1.0/configns}type"
    for path in ("y:users", "y:partitioning", "y:software/y:packages", "y:networking/y:interfaces"):
        assert root.find(path, space).get(kind) == "list"
    if "full" in name:
        assert text("y:users/y:user/y:authorized_keys/y:listentry") == [KEY]
        assert text("y:users/y:user/y:fullname") == [FULL["user_fullname"]]
        assert script[0] == FULL["late_commands"][0]


@pytest.mark.parametrize("name", of_kind("autounattend"))
def test_autounattend(answers, name):
    space = {"u": "urn:schemas-microsoft-com:unattend"}
    root = ET.fromstring(answers[name])
    assert root.tag == "{urn:schemas-microsoft-com:unattend}unattend"
    assert [each.get("pass") for each in root.findall("u:settings", space)] == ["windowsPE", "specialize", "oobeSystem"]
    for component in root.iter("{urn:schemas-microsoft-com:unattend}component"):
        assert component.get("processorArchitecture") == "amd64"
        assert component.get("publicKeyToken") == "31bf3856ad364e35"

    def text(path: str) -> list[str]:
        return [each.text or "" for each in root.findall(f".//{path}", space)]

    uefi = not name.endswith("BIOS")
    types = text("u:CreatePartition/u:Type")
    assert types == (["EFI", "MSR", "Primary"] if uefi else ["Primary"])
    assert text("u:InstallTo/u:PartitionID") == [str(len(types))]
    assert text("u:AcceptEula") == ["true"]
    password = CASES[name]["answers"]["password"]
    assert set(text("u:Password/u:Value") + text("u:AdministratorPassword/u:Value")) == {password}
    assert len(text("u:ComputerName")[0]) <= 15
    commands = text("u:SynchronousCommand/u:CommandLine")
    assert "echo nebula-install: finished > COM1" in commands[-3] and commands[-1] == "shutdown /s /t 5"
    assert text("u:SynchronousCommand/u:Order") == [str(n) for n in range(1, len(commands) + 1)]
    paths = text("u:DriverPaths/u:PathAndCredentials/u:Path")
    assert bool(paths) == (name == "autounattend-drivers")
    assert not paths or re.fullmatch(r"D:\\viostor\\w11\\amd64", paths[0])


def test_no_two_drivers_have_a_key(answers):
    keys = re.findall(r'wcm:keyValue="(\w+)"', answers["autounattend-drivers"])
    assert keys and len(keys) == len(set(keys))
