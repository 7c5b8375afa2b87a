# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answers of role install_os as Ansible renders them, by the installers' own checkers where these can be had."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion

from ansible_collections.nebula.provision.plugins.lookup import install_answers
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install import answer_files

ROOT = Path(__file__).resolve().parents[4]
HASH = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ops@"it\'s" <here>'
RESTRICTED = f'from="10.0.0.0/8",command="echo \'hello\' # $HOME" {KEY}'
STATIC = {"address": "10.66.0.20", "gateway": "10.66.0.1", "nameservers": ["10.66.0.1", "10.66.0.2"]}
FULL = {
    "hostname": "web", "domain": "example.org", "user": "ops", "user_fullname": "The <Ops> & Co", "password_hash": HASH,
    "root_password_hash": HASH, "ssh_keys": [KEY], "packages": ["vim", "curl"], "timezone": "Europe/Berlin",
    "keyboard": "de", "locale": "de_DE.UTF-8", "mirror": "http://mirror.example.org:8080/some/debian",
    "proxy": "http://proxy.example.org:3128/", "late_commands": ["echo 'it is' \"done\" & > /root/it"], **STATIC,
}  # fmt: skip
WINDOWS = {
    "hostname": "web-windows-srv", "user": "Ops", "password": "p<&>\"'w", "product_key": "AAAAA-BBBBB",
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
        ("kickstart", FULL, {"ssh_keys": KEY}),
        ("autoinstall", FULL, {"password_hash": HASH}),
        ("autoyast", FULL, {"root_password_hash": HASH, "user": ""}),
        ("autounattend", WINDOWS, {"password": "secret"}),
    )
    for form, firmware, end in (("full", "UEFI", "poweroff"), ("least", "BIOS", "reboot"))
}
LINUX = ("preseed", "kickstart", "autoinstall", "autoyast")
# Without a password; of root alone; and with a late command that fails.
for kind in LINUX:
    for case, given in (
        ("keys", {"ssh_keys": [RESTRICTED], **STATIC}),
        ("root", {"ssh_keys": [RESTRICTED], "user": "", **STATIC}),
        ("password", {"password_hash": HASH, **STATIC}),
        ("root-password", {"root_password_hash": HASH, "user": "", "ssh_keys": [KEY]}),
        ("failing", {"ssh_keys": [KEY], "late_commands": ["false", "true"]}),
    ):
        CASES[f"{case}-{kind}"] = {
            "name": f"{case}-{kind}",
            "answers": {"kind": kind, "hostname": "web", **given},
        }
CASES["autounattend-drivers"] = {
    "name": "autounattend-drivers",
    "drivers": "virtio",
    "answers": {"kind": "autounattend", **WINDOWS},
}
# With an IPv6 address, in the forms that its prefix has; and with a prefix of IPv4.
STATIC6 = {"address": "2001:db8:7::10", "gateway": "2001:db8:7::1", "nameservers": ["2001:db8:7::53", "2001:db8::53"]}
for kind in LINUX:
    for case, given in (
        ("ipv6", STATIC6),
        ("ipv6-prefix", {**STATIC6, "netmask": "56"}),
        ("ipv6-mask", {**STATIC6, "netmask": "ffff:ffff:ffff:ff00::"}),
        ("ipv6-cidr", {**STATIC6, "address": "2001:0db8:7::10/56"}),
        ("ipv4-prefix", {**STATIC, "netmask": "23"}),
    ):
        CASES[f"{case}-{kind}"] = {"name": f"{case}-{kind}", "answers": {"kind": kind, "ssh_keys": [KEY], **given}}
CASES["own"] = {"name": "own", "answers": {"kind": "preseed", "file": "own.cfg"}}
CASES["own-template"] = {"name": "own-template", "answers": {"kind": "preseed", "file": "own.cfg.j2"}}
CASES["by-hand"] = {"name": "by-hand"}
CASES["wrong"] = {"name": "wrong", "answers": {"kind": "presed"}}
CASES["netmask"] = {
    "name": "netmask",
    "answers": {"kind": "preseed", "password_hash": HASH, "address": "10.66.0.20", "netmask": "x"},
}
BAD = {
    "missing": {"kind": "preseed", "file": "nowhere.cfg"},
    "undefined": {"kind": "preseed", "file": "undefined.cfg.j2"},
    "syntax": {"kind": "preseed", "file": "syntax.cfg.j2"},
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
    """Nor those that the module refuses, with its words."""
    assert set(CASES) - set(answers) == {"by-hand", "wrong", "netmask"}


def test_own_files(answers):
    assert answers["own"] == "d-i {{ not/rendered }} string\n"
    assert answers["own-template"].strip() == "d-i own-template nebula-install: finished of the play"


def test_what_can_not_be_rendered_keeps_no_other_from_it(answers):
    said = {name: answers[name]["error"] for name in BAD}
    assert said["missing"].startswith("file nowhere.cfg: it is not on the control node: neither beside the inventory")
    assert "no_such_variable" in said["undefined"] and "undefined" in said["undefined"]
    assert said["syntax"]


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
    # What stands around it stays.
    assert install_answers.without_source(f"while templating {source!r}: x", source) == "while templating '…': x"


def others_of_kind(kind: str) -> list[str]:
    return [name for name in CASES if name.endswith(f"-{kind}")]


@pytest.mark.parametrize("name", [*of_kind("preseed"), *others_of_kind("preseed")])
def test_preseed_is_read(answers, name, tmp_path):
    if shutil.which("debconf-set-selections") is None:
        pytest.skip("debconf-set-selections is Debian's")
    text = answers[name]
    file = tmp_path / "preseed.cfg"
    file.write_text(text)
    done = subprocess.run(["debconf-set-selections", "-c", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    # Each question once: the installer takes the last.
    questions = [line.split(None, 3)[1] for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(questions) == len(set(questions))


@pytest.mark.parametrize("name", of_kind("preseed"))
def test_preseed(answers, name):
    given = preseeded(answers[name])
    uefi = name.endswith("UEFI")
    assert given.get("grub-installer/force-efi-extra-removable") == ("true" if uefi else None)
    assert given.get("debian-installer/exit/poweroff") == ("true" if uefi else None)
    assert given["debian-installer/add-kernel-opts"] == "console=tty0 console=ttyS0,115200n8"
    assert given["preseed/late_command"].endswith("echo 'nebula-install: finished' > /dev/ttyS0")
    assert given["passwd/user-password-crypted"] == HASH


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


VERSIONS = ("RHEL8", "RHEL9", "F39")


@pytest.fixture(scope="module")
def validate():
    """What program ksvalidator does with its arguments, without the start of a Python for each: it returns its exit
    code and what it has to say."""
    return runpy.run_path(str(Path(sys.executable).with_name("ksvalidator")))["main"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*of_kind("kickstart"), *others_of_kind("kickstart")])
def test_kickstart_is_read(answers, validate, name, version, tmp_path):
    file = tmp_path / "ks.cfg"
    file.write_text(answers[name])
    assert validate(["-v", version, str(file)]) == (0, [])


def test_what_is_no_kickstart_is_not_read(validate, tmp_path):
    file = tmp_path / "ks.cfg"
    file.write_text("no such command\n")
    assert validate(["-v", VERSIONS[0], str(file)])[0] == 1


@pytest.mark.parametrize("name", of_kind("kickstart"))
def test_kickstart(answers, name):
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
        assert script[0] == "set -e" and FULL["late_commands"][0] in script


PREFIXES = {"ipv6": 64, "ipv6-prefix": 56, "ipv6-mask": 56, "ipv6-cidr": 56}


@pytest.mark.parametrize(("case", "length"), PREFIXES.items())
def test_an_ipv6_address_in_each_kind(answers, case, length):
    """As each installer takes it: an IPv4 netmask is said to none of them."""
    given = preseeded(answers[f"{case}-preseed"])
    assert given["netcfg/get_ipaddress"] == f"2001:db8:7::10/{length}" and "netcfg/get_netmask" not in given
    assert given["netcfg/get_gateway"] == "2001:db8:7::1"
    assert given["netcfg/get_nameservers"] == "2001:db8:7::53 2001:db8::53"
    for version in VERSIONS:
        network = parsed(answers[f"{case}-kickstart"], version).network.network[0]
        assert (network.ipv6, network.ipv6gateway) == (f"2001:db8:7::10/{length}", "2001:db8:7::1")
        assert network.noipv4 and not network.noipv6 and not (network.ip or network.netmask or network.gateway)
        assert network.nameserver == "2001:db8:7::53,2001:db8::53"
    interface = yaml.safe_load(answers[f"{case}-autoinstall"])["autoinstall"]["network"]["ethernets"]["first"]
    assert interface["addresses"] == [f"2001:db8:7::10/{length}"]
    assert interface["routes"] == [{"to": "default", "via": "2001:db8:7::1"}]
    root = ET.fromstring(answers[f"{case}-autoyast"])
    found = {each.tag.partition("}")[2]: each.text for each in root.iter() if each.text}
    assert (found["ipaddr"], found["prefixlen"]) == ("2001:db8:7::10", str(length)) and "netmask" not in found
    assert root.findtext(".//{*}route/{*}gateway") == "2001:db8:7::1"


def test_a_prefix_of_ipv4_in_each_kind(answers):
    assert preseeded(answers["ipv4-prefix-preseed"])["netcfg/get_netmask"] == "255.255.254.0"
    network = parsed(answers["ipv4-prefix-kickstart"]).network.network[0]
    assert (network.ip, network.netmask, network.noipv4) == ("10.66.0.20", "255.255.254.0", False)
    interface = yaml.safe_load(answers["ipv4-prefix-autoinstall"])["autoinstall"]["network"]["ethernets"]["first"]
    assert interface["addresses"] == ["10.66.0.20/23"]
    assert ET.fromstring(answers["ipv4-prefix-autoyast"]).findtext(".//{*}netmask") == "255.255.254.0"


def test_the_line_of_hosts_that_has_an_ipv6_address_is_not_kept(answers, installed):
    installed.write(
        {"etc/hosts": "127.0.0.1 localhost\n2001:db8:7::10 web.example.org web\n", "etc/network/interfaces": ""}
    )
    assert installed.run(scripts(answers, "ipv6-cidr-preseed"))
    assert installed.read("etc/hosts") == "127.0.0.1 localhost\n127.0.1.1 web.example.org web\n"


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
    assert text("u:ComputerName") == [{"least-BIOS": "AUTOUNATTEND-LE"}.get(name[13:], "WEB-WINDOWS-SRV")]
    commands = text("u:SynchronousCommand/u:CommandLine")
    assert "echo nebula-install: finished > COM1" in commands[-3] and commands[-1] == "shutdown /s /t 5"
    assert text("u:SynchronousCommand/u:Order") == [str(n) for n in range(1, len(commands) + 1)]
    paths = text("u:DriverPaths/u:PathAndCredentials/u:Path")
    assert bool(paths) == (name == "autounattend-drivers")
    assert not paths or re.fullmatch(r"D:\\viostor\\w11\\amd64", paths[0])


def test_no_two_drivers_have_a_key(answers):
    keys = re.findall(r'wcm:keyValue="(\w+)"', answers["autounattend-drivers"])
    assert keys and len(keys) == len(set(keys))


# --- what answers have done at the end of an installation ------------------------------------------------------------


class Installed:
    """A system that is being installed, below a directory, and programs that stand for those of its installer."""

    def __init__(self, place: Path) -> None:
        self.root = place / "installed"
        self.programs = place / "programs"
        self.serial = place / "serial"
        self.calls = place / "calls"
        for directory in ("etc/sudoers.d", "etc/default", "etc/cloud/cloud.cfg.d", "etc/netplan", "home/ops", "root"):
            (self.root / directory).mkdir(parents=True)
        self.programs.mkdir()
        # in-target and curtin run what they are given in the installed system; here they do so for a shell only.
        for name, word in (("in-target", 1), ("curtin", 3), ("usermod", 0), ("groupadd", 0)):
            shell = f'shift {word - 1}; [ "$1" != sh ] || exec "$@"' if word else ""
            file = self.programs / name
            file.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{shell}\n')
            file.chmod(0o755)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def run(self, scripts: list[str]) -> bool:
        """Whether all went well; the first that fails ends it."""
        for script in scripts:
            text = script.replace("/usr/sbin/", f"{self.programs}/").replace("/dev/ttyS0", str(self.serial))
            text = text.replace("/target/", f"{self.root}/")
            text = re.sub(rf"(?<!{re.escape(str(self.root))})/(?=(etc|boot)/)", f"{self.root}/", text)
            path = f"{self.programs}:{os.environ['PATH']}"
            if subprocess.run(["sh", "-c", text], check=False, env={**os.environ, "PATH": path}).returncode != 0:
                return False
        return True

    def rules(self) -> list[str]:
        """Of sudo, as it reads them."""
        file = self.root / "etc/sudoers.d/90-ops"
        if not file.exists():
            return []
        assert file.stat().st_mode & 0o777 == 0o440
        if shutil.which("visudo"):
            subprocess.run(["visudo", "-cqf", str(file)], check=True)
        return file.read_text().splitlines()


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def parsed(kickstart: str, version: str = "RHEL9") -> Any:
    handler = makeVersion(version)
    KickstartParser(handler).readKickstartFromString(kickstart)
    return handler


def scripts(answers: dict[str, str], name: str) -> list[str]:
    """What the installer runs at the end."""
    text = answers[name]
    if name.endswith("preseed"):
        return [preseeded(text)["preseed/late_command"]]
    if name.endswith("kickstart"):
        found = parsed(text).scripts
        assert [script.errorOnFail for script in found] == [True] * (len(found) - 1) + [False]
        return [script.script for script in found]
    if name.endswith("autoinstall"):
        # The console is not ours to test here.
        late = yaml.safe_load(text)["autoinstall"]["late-commands"]
        return [command for command in late if "grub" not in command]
    return [ET.fromstring(text).findtext(".//{*}chroot-scripts/{*}script/{*}source") or ""]


@pytest.mark.parametrize("kind", LINUX)
def test_a_late_command_that_fails_is_no_end(answers, installed, kind):
    assert not installed.run(scripts(answers, f"failing-{kind}"))
    assert not installed.serial.exists()


@pytest.mark.parametrize("kind", LINUX)
def test_without_a_password_sudo_asks_for_none(answers, installed, kind):
    installed.write({"etc/hosts": "", "etc/network/interfaces": ""})
    assert installed.run(scripts(answers, f"keys-{kind}"))
    assert installed.serial.read_text() == "nebula-install: finished\n"
    assert installed.rules() == ["ops ALL=(ALL) NOPASSWD:ALL"]


@pytest.mark.parametrize("case", ["password", "root"])
@pytest.mark.parametrize("kind", LINUX)
def test_nobody_else_goes_without(answers, installed, kind, case):
    installed.write({"etc/hosts": "", "etc/network/interfaces": ""})
    assert installed.run(scripts(answers, f"{case}-{kind}"))
    # Of openSUSE root's password would be asked for.
    own = ["Defaults:ops !targetpw", "ops ALL=(ALL) ALL"] if (case, kind) == ("password", "autoyast") else []
    assert installed.rules() == own


def test_sudo_is_there(answers):
    assert preseeded(answers["keys-preseed"])["pkgsel/include"] == "openssh-server sudo"
    assert "sudo" in parsed(answers["keys-kickstart"]).packages.packageList
    assert "sudo" not in parsed(answers["root-kickstart"]).packages.packageList
    assert "<package>sudo</package>" in answers["keys-autoyast"]
    assert "<package>sudo</package>" not in answers["root-autoyast"]


def test_an_administrator_of_opensuse(answers, installed):
    installed.write({"etc/hosts": ""})
    assert installed.run(scripts(answers, "password-autoyast"))
    assert "usermod -a -G wheel ops" in installed.calls.read_text().splitlines()


# --- the address of the machine that installs -------------------------------------------------------------------------


def test_debian_keeps_no_address(answers, installed):
    installed.write(
        {
            "etc/network/interfaces": "auto ens3\niface ens3 inet static\n\taddress 10.66.0.20/24\n",
            "etc/hosts": "127.0.0.1\tlocalhost\n10.66.0.20\tweb.example.org\tweb\n10.66.0.200\tother\n",
        }
    )
    assert installed.run(scripts(answers, "keys-preseed"))
    lines = installed.read("etc/network/interfaces").splitlines()
    assert [line for line in lines if line.startswith("iface")] == ["iface lo inet loopback"]
    # Where cloud-init writes.
    assert "source /etc/network/interfaces.d/*".replace("/etc", f"{installed.root}/etc") in lines
    hosts = installed.read("etc/hosts").splitlines()
    assert hosts[1].split() == ["127.0.1.1", "web.example.org", "web"] and hosts[2] == "10.66.0.200\tother"
    # What the installer copies after that.
    assert preseeded(answers["keys-preseed"])["netcfg/target_network_config"] == "loopback"
    assert "netcfg/target_network_config" not in preseeded(answers["failing-preseed"])


def test_the_rhel_family_keeps_no_address(answers, installed):
    kept = {"etc/sysconfig/network-scripts/ifcfg-lo": ""}
    connection = "etc/NetworkManager/system-connections/ens3.nmconnection"
    installed.write({**kept, connection: "", "etc/sysconfig/network-scripts/ifcfg-ens3": ""})
    assert installed.run(scripts(answers, "keys-kickstart"))
    assert installed.files() == {*kept, "etc/sudoers.d/90-ops"}
    assert not any("nmconnection" in script for script in scripts(answers, "failing-kickstart"))


def test_ubuntu_keeps_no_address(answers, installed):
    # By it cloud-init makes accounts at the first boot, and gives them their keys.
    kept = {"etc/cloud/cloud.cfg.d/99-installer.cfg": "datasource_list: [None]\n"}
    configuration = {"etc/netplan/00-installer-config.yaml": "", "etc/cloud/cloud.cfg.d/90-installer-network.cfg": ""}
    installed.write({**kept, **configuration, "etc/netplan/50-cloud-init.yaml": ""})
    assert installed.run(scripts(answers, "password-autoinstall"))
    off = "etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"
    assert installed.files() == {*kept, off}
    assert yaml.safe_load(installed.read(off)) == {"network": {"config": "disabled"}}
    assert not any("netplan" in script for script in scripts(answers, "failing-autoinstall"))


def test_opensuse_keeps_no_address(answers, installed):
    kept = {"etc/sysconfig/network/ifcfg-lo": "", "etc/sysconfig/network/config": ""}
    written = ("sysconfig/network/ifcfg-eth0", "sysconfig/network/routes")
    installed.write({**kept, **{f"etc/{name}": "" for name in written}})
    installed.write({"etc/hosts": "127.0.0.1\tlocalhost\n10.66.0.20\tweb\n"})
    assert installed.run(scripts(answers, "root-autoyast"))
    assert installed.files() == {*kept, "etc/hosts"}
    assert installed.read("etc/hosts") == "127.0.0.1\tlocalhost\n"
    assert "/etc/sysconfig" not in scripts(answers, "failing-autoyast")[0]


# --- who logs in ------------------------------------------------------------------------------------------------------


def test_debian_asks_for_no_user(answers):
    """user-setup goes by root's login: without it, it asks for a user, and with the password "!" for root's."""
    given = preseeded(answers["root-preseed"])
    assert (given["passwd/root-login"], given["passwd/root-password-crypted"]) == ("true", "*")
    assert given["passwd/make-user"] == "false" and "passwd/username" not in given
    assert preseeded(answers["root-password-preseed"])["passwd/root-password-crypted"] == HASH
    given = preseeded(answers["keys-preseed"])
    assert (given["passwd/root-login"], given["passwd/username"]) == ("false", "ops")
    assert "passwd/root-password-crypted" not in given


@pytest.mark.parametrize(("case", "home"), [("keys", "home/ops"), ("root", "root")])
def test_keys_reach_debian_whole(answers, installed, case, home):
    installed.write({"etc/hosts": "", "etc/network/interfaces": ""})
    assert installed.run(scripts(answers, f"{case}-preseed"))
    assert installed.read(f"{home}/.ssh/authorized_keys") == f"{RESTRICTED}\n"
    assert (installed.root / home / ".ssh").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("case", "user"), [("keys", "ops"), ("root", "root")])
def test_keys_reach_the_rhel_family_whole(answers, case, user, version):
    given = parsed(answers[f"{case}-kickstart"], version)
    assert [(key.username, key.key) for key in given.sshkey.sshUserList] == [(user, RESTRICTED)]
    assert [each.name for each in given.user.userList] == ["ops"] * (case == "keys")


def test_ubuntu_with_root_alone(answers, installed):
    auto = yaml.safe_load(answers["root-autoinstall"])["autoinstall"]
    assert "identity" not in auto and auto["ssh"]["authorized-keys"] == []
    assert auto["user-data"] == {
        "preserve_hostname": True,
        "disable_root": False,
        "users": [{"name": "root", "ssh_authorized_keys": [RESTRICTED]}],
    }
    assert installed.run(scripts(answers, "root-autoinstall"))
    assert installed.read("etc/hostname") == "web\n"
    users = yaml.safe_load(answers["root-password-autoinstall"])["autoinstall"]["user-data"]["users"]
    assert users == [
        {"name": "root", "ssh_authorized_keys": [KEY], "hashed_passwd": HASH, "lock_passwd": False},
    ]
    assert "user-data" not in yaml.safe_load(answers["keys-autoinstall"])["autoinstall"]


def test_opensuse_with_root_alone(answers):
    root = ET.fromstring(answers["root-autoyast"])
    assert [each.text for each in root.iterfind(".//{*}users/{*}user/{*}username")] == ["root"]
    assert [each.text for each in root.iterfind(".//{*}authorized_keys/{*}listentry")] == [RESTRICTED]


# --- values that no installer takes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("preseed", {"user": "admin"}, "user admin: installers keep this name for the system. Choose another one"),
        ("autoinstall", {"user": "sudo"}, "user sudo: installers keep"),
        ("kickstart", {"user": "systemd-network"}, "user systemd-network: installers keep"),
        ("autoyast", {"user": "Ops"}, "user: installers accept no such name. Use up to 32 characters"),
        ("preseed", {"user": "1ops"}, "user: installers accept"),
        ("preseed", {"user": "ops.one"}, "user: installers accept"),
        ("preseed", {"user": "o" * 33}, "user: installers accept"),
        ("autounattend", {"user": "o" * 21}, "user 'o{21}': it has 21 characters, .* Use 1 to 20 characters"),
        ("autounattend", {"user": "ops@here"}, "user 'ops@here': it holds '@'"),
        ("autounattend", {"user": "a\\b"}, "user .*: it holds"),
        ("autounattend", {"user": ""}, "user '': Windows is not installed without an account"),
        ("preseed", {"hostname": "web.example.org"}, "hostname: it has a dot. Give .* the rest into domain"),
        ("autounattend", {"hostname": "web.example.org"}, "hostname: it has a dot. Give .* its first dot$"),
        ("preseed", {"hostname": "my web"}, "hostname: it is no host name. Use up to 63"),
        ("preseed", {"hostname": "web-"}, "hostname: it is no host name"),
        ("preseed", {"hostname": "w" * 64}, "hostname: it is no host name"),
        ("kickstart", {"domain": "example..org"}, "domain: it is no domain. Join labels"),
        ("kickstart", {"domain": ".org"}, "domain: it is no domain"),
        ("kickstart", {"gateway": "router"}, "gateway: it is no IP address. Write it as 192.0.2.10"),
        ("kickstart", {"gateway": "10.66.0.1 --nodefroute"}, "gateway: it is no IP address"),
        ("preseed", {"nameservers": ["10.66.0.1", "dns"]}, "nameservers: it is no IP address"),
        ("preseed", {"nameservers": [""]}, "nameservers: it is no IP address"),
        ("preseed", {"address": "10.66.0.20/33"}, "address: 33: a prefix of IPv4 has 1 to 32 bits"),
        ("preseed", {"address": "10.66.0"}, "address: it is no IP address"),
    ],
)  # fmt: skip
def test_values_that_no_installer_takes(kind, given, said):
    with pytest.raises(InvalidValue, match=f"install x: answers: {said}"):
        taken(kind, given)


def taken(kind: str, given: dict[str, Any]) -> dict[str, object]:
    """The variables of answers that nothing is said against, for an image that is called image."""
    values = answer_files.variables_of(answer_files.KINDS[kind], {"kind": kind, **given}, "install x: answers")
    answer_files.check_late(answer_files.KINDS[kind], values, "image", "install x: answers")
    return values


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("preseed", {"user": "my-user_1", "hostname": "3Com-Web", "domain": "a.example.org"}),
        ("kickstart", {"user": "", **STATIC, "nameservers": ["10.66.0.1", "2001:db8::1"]}),
        ("autounattend", {"user": "Admin", "hostname": "WEB"}),
        ("autounattend", {"user": "An Operator"}),
    ],
)  # fmt: skip
def test_values_that_installers_take(kind, given):
    values = taken(kind, given)
    assert {key: values[key] for key in given} == given


def test_no_default_is_refused():
    for kind in answer_files.KINDS.values():
        assert answer_files.variables_of(kind, {}, "x")["user"] == "ops"
    # What Debian's says of one that slips through.
    assert any(re.search(pattern, "!! ERROR: Reserved username") for pattern in answer_files.KINDS["preseed"].failures)


def test_the_password_of_no_user_logs_nobody_in():
    kind = answer_files.KINDS["preseed"]
    values = answer_files.variables_of(kind, {"user": "", "password_hash": HASH}, "x")
    with pytest.raises(InvalidValue, match=r"nobody could log in: none of root_password_hash, ssh_keys is given"):
        answer_files.check_accounts(kind, values, "x")
    answer_files.check_accounts(kind, {**values, "ssh_keys": [KEY]}, "x")
