# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import variables
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.network import Network
from ansible_collections.nebula.provision.plugins.module_utils.model.nic import Alias, Nic
from ansible_collections.nebula.provision.plugins.module_utils.model.owner import Owner
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Graphics, Vm
from ansible_collections.nebula.provision.plugins.module_utils.text import context_sh
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import as_template, parse

ONED = Path(__file__).parents[4] / "fixtures" / "oned"
NET_A = {
    "NETWORK_ADDRESS": "10.1.0.0",
    "NETWORK_MASK": "255.255.0.0",
    "GATEWAY": "10.1.0.1",
    "DNS": "10.1.0.2 9.9.9.9",
    "SEARCH_DOMAIN": "example.org lab",
    "GUEST_MTU": "1400",
    "METRIC": "100",
}
NET_B = {
    "NETWORK_ADDRESS": "192.168.77.0",
    "NETWORK_MASK": "255.255.255.0",
    "GATEWAY": "192.168.77.1",
    "DNS": "192.168.77.2",
}


def nic(nic_id=0, network="net-a", ip="10.1.0.10", mac="02:00:0a:01:00:0a", values=None, **more):
    values = NET_A if values is None else values
    return Nic(nic_id, nic_id, network, "br-a", mac, ip=ip, network_values=values, **more)


def machine(context=None, *, nics=(), disks=(), name="web-0", vm_id=7, exact=True, template=None, **more):
    place = Context(disk_id=len(disks), target="sda", bus="scsi", exact=exact)
    vm = Vm(vm_id, "uuid", name, "kvm", 0.5, 128, context=place, nics=tuple(nics), disks=tuple(disks), **more)
    return vm, Template.from_mapping({**(template or {}), "CONTEXT": context or {}})


def built(context=None, *, networks=(), images=(), **more):
    vm, template = machine(context, **more)
    context, warnings = variables.build_context(vm, template, networks=networks, images=images)
    return context, warnings


def values(context=None, **more):
    found, warnings = built(context, **more)
    assert warnings == []
    return found.variables


def oned_case(case):
    if case.startswith("11"):
        disks = [Disk(0, "vda", source="/d/00debian", image="debian"), Disk(1, "sda"), Disk(2, "sdb")]
        nics = [nic(ip="10.1.0.25", mac="02:00:0a:01:00:19", model="e1000")]
        return Vm(20, "u", "plain-vnc", "kvm", 1, 512, vcpu=2, disks=tuple(disks), nics=tuple(nics),
                  context=Context(3, "hdb", exact=True))  # fmt: skip
    disks = [Disk(0, "vda", image="debian", source="/var/lib/one//datastores/1/00debian"), Disk(1, "vdc", image="data"),
             Disk(2, "sda"), Disk(3, "vde"), Disk(4, "hda", image="iso")]  # fmt: skip
    nics = [nic(), nic(1, "net-b", "192.168.77.33", "02:00:c0:a8:4d:21", NET_B, model="e1000")]
    return Vm(1, "u", "boot-disks-nics", "kvm", 1.5, 2048, vcpu=4, disks=tuple(disks), nics=tuple(nics),
              context=Context(5, "hdd", exact=True))  # fmt: skip


@pytest.mark.parametrize("case", ["02-boot-disks-nics", "11-plain-vnc"])
def test_the_same_file_as_a_real_opennebula(case):
    template = parse((ONED / f"{case}.tmpl").read_text())
    context, warnings = variables.build_context(oned_case(case), template)
    assert context_sh.render(context.variables) == (ONED / f"{case}.context").read_text()
    assert warnings == []


# The old documentation's, with one of its values unquoted.
EXAMPLE = r"""
CONTEXT = [
  hostname   = "MAINHOST",
  ip_private = $NIC[IP],
  dns        = "$NETWORK[DNS, NAME=\"Public\"]",
  ip_gen     = "10.0.0.$VMID",
  files      = "/service/init.sh /service/certificates /service/service.conf"
]
"""


def test_the_example_of_the_documentation():
    template = parse(EXAMPLE.replace("$NIC[IP]", '"$NIC[IP]"'))
    vm, _template = machine(vm_id=85, nics=[nic(network="Red", ip="192.168.0.5", values={})])
    public = Network(3, "Public", attributes={"DNS": "192.168.4.9"})
    context, warnings = variables.build_context(vm, template, networks=[public])
    assert context.variables == {
        "HOSTNAME": "MAINHOST",
        "IP_PRIVATE": "192.168.0.5",
        "DNS": "192.168.4.9",
        "IP_GEN": "10.0.0.85",
        "FILES": "/service/init.sh /service/certificates /service/service.conf",
        "TARGET": "sda",
        "DISK_ID": "0",
    }
    assert context.files == (
        ContextFile("/service/init.sh", "init.sh"),
        ContextFile("/service/certificates", "certificates"),
        ContextFile("/service/service.conf", "service.conf"),
    )
    assert warnings == []


def test_the_place_of_the_context_is_kept():
    found, _warnings = built({"A": "b"}, disks=[Disk(0, "vda")])
    assert (found.disk_id, found.target, found.bus) == (1, "sda", "scsi")
    assert (found.variables["DISK_ID"], found.variables["TARGET"]) == ("1", "sda")


def test_no_context_no_iso():
    vm, _template = machine()
    vm = Vm(vm.vm_id, vm.uuid, vm.name, vm.hypervisor, vm.cpu, vm.memory)
    assert variables.build_context(vm, Template()) == (None, [])


@pytest.mark.parametrize("said", ["YES", "yes"])
def test_every_nic_gets_every_variable(said):
    found = values({"NETWORK": said}, nics=[nic(), nic(1, values={}, ip="", mac="02:00:00:00:00:01")])
    for index in (0, 1):
        assert {name for name in found if name.startswith(f"ETH{index}_")} == {
            f"ETH{index}_{name}" for name, _attributes in variables.NETWORK_VARIABLES
        }
    assert found["ETH1_MAC"] == "02:00:00:00:00:01"
    assert found["ETH1_IP"] == found["ETH1_MASK"] == ""


def test_the_nic_comes_before_its_network():
    options = {"DNS": "1.1.1.1", "METHOD": "dhcp", "IP": "10.9.9.9"}
    found = values({"NETWORK": "YES"}, nics=[nic(options=options)])
    assert (found["ETH0_DNS"], found["ETH0_METHOD"], found["ETH0_GATEWAY"]) == ("1.1.1.1", "dhcp", "10.1.0.1")
    # What was leased, not what was asked for.
    assert found["ETH0_IP"] == "10.1.0.10"


def test_what_the_user_sets_is_kept():
    found = values({"NETWORK": "YES", "ETH0_DNS": "9.9.9.9", "ETH0_MTU": ""}, nics=[nic()])
    assert (found["ETH0_DNS"], found["ETH0_MTU"]) == ("9.9.9.9", "1400")


def test_ip6():
    network = {"GATEWAY6": "fd00::1", "IP6_METHOD": "static", "PREFIX_LENGTH": "48", "IP6_METRIC": "5"}
    found = values({"NETWORK": "YES"}, nics=[nic(ip6="2001:db8::5", ip6_ula="fd00::5", values=network)])
    assert {name[5:]: value for name, value in found.items() if name.startswith("ETH0_IP6")} == {
        "IP6": "2001:db8::5",
        "IP6_ULA": "fd00::5",
        "IP6_GATEWAY": "fd00::1",
        "IP6_METHOD": "static",
        "IP6_METRIC": "5",
        "IP6_PREFIX_LENGTH": "48",
    }


def test_network_no_gives_none():
    assert not any(name.startswith("ETH") for name in values({"NETWORK": "NO"}, nics=[nic()]))
    assert not any(name.startswith("ETH") for name in values({}, nics=[nic()]))


def test_network_that_is_neither_warns():
    _context, warnings = built({"NETWORK": "true"}, nics=[nic()])
    assert warnings == ["CONTEXT/NETWORK: only YES gives the machine its network variables"]


def test_a_token_brings_the_id_alone_and_warns():
    found, warnings = built({"TOKEN": "yes", "VMID": "another"})
    assert warnings == [
        "CONTEXT/TOKEN: there is no OneGate here, so VMID is added for it, and no token and no endpoint"
    ]
    assert found.variables["VMID"] == "7"
    found, warnings = built({"TOKEN": "NO"})
    assert "VMID" not in found.variables and warnings == []


def test_a_token_brings_nothing_to_a_machine_of_an_older_version():
    found, warnings = built({"TOKEN": "yes"}, exact=False)
    assert warnings == ["CONTEXT/TOKEN: there is no OneGate here, so nothing is added for it"]
    assert "VMID" not in found.variables


DISK = Disk(0, "vda", source="/s/debian", image="debian", image_id=4, format="qcow2")
OWN = Image(4, "debian", type=ImageType.OS, source="/s/debian", format="qcow2", size=9, origin="http://u:p@h/x")
SCRIPT = Image(5, "init.sh", type=ImageType.CONTEXT, source="/s/init", origin="/root/init.sh")


@pytest.mark.parametrize(
    ("text", "exact", "older", "why"),
    [
        ("$VCPU", "", "1", "$VCPU is empty here: the template does not set it"),
        ("$vcpu", "", "1", "$VCPU is empty here: the template does not set it"),
        ("$IMAGE[SOURCE]", "", "/s/debian", "$IMAGE[SOURCE] is empty here: guests are not shown"),
        ('$IMAGE[SOURCE, IMAGE="debian"]', "", "/s/debian", "$IMAGE[SOURCE] is empty here: guests are not shown"),
        ("$IMAGE[PATH, IMAGE_ID=4]", "", "http://u:p@h/x", "$IMAGE[PATH] is empty here: guests are not shown"),
        ('$FILE[SOURCE, IMAGE="init.sh"]', "", "/s/init", "$FILE[SOURCE] is empty here: guests are not shown"),
        ('$FILE[PATH, IMAGE="init.sh"]', "", "/root/init.sh", "$FILE[PATH] is empty here: guests are not shown"),
        ('$FILE[IMAGE="init.sh"]', "", "/s/init:'init.sh' ", "$FILE[IMAGE=…] is empty here: guests are not shown"),
        ('$IMAGE[FORMAT, IMAGE="debian"]', "qcow2", "qcow2", ""),
        ('$FILE[NAME, IMAGE="init.sh"]', "init.sh", "init.sh", ""),
        ("$GRAPHICS[LISTEN]", "", "127.0.0.1", "$GRAPHICS[LISTEN] is empty here: the template does not set it"),
        ("$GRAPHICS[TYPE] $GRAPHICS[PORT]", "vnc 5907", "vnc 5907", ""),
        # As measured with a real OpenNebula.
        ('$DISK[SOURCE, IMAGE="debian"]', "/s/debian", "/s/debian", ""),
    ],
)
def test_what_a_real_opennebula_leaves_empty_is_so_for_machines_that_are_new(text, exact, older, why):
    given = {"images": [OWN, SCRIPT], "disks": [DISK], "graphics": Graphics("vnc", port=5907)}
    found, warnings = built({"A": text}, **given)
    assert found.variables["A"] == exact
    assert [warning.startswith(f"CONTEXT/A: {why}") for warning in warnings] == [True] * bool(why)
    found, warnings = built({"A": text}, **given, exact=False)
    assert (found.variables["A"], warnings) == (older, [])


def test_files_find_theirs_all_the_same():
    context = {"FILES": '$IMAGE[SOURCE, IMAGE="init.sh"]', "FILES_DS": '$FILE[IMAGE="init.sh"]', "NOTE": "x"}
    found, warnings = built(context, images=[SCRIPT])
    assert warnings == [] and found.variables["FILES"] == "/s/init"
    assert [file.source for file in found.files][-1] == "/s/init"


@pytest.mark.parametrize("exact", [True, False])
def test_processors_that_are_set_are_filled_in(exact):
    found, warnings = built({"A": "$VCPU"}, template={"VCPU": "2"}, vcpu=2, exact=exact)
    assert (found.variables["A"], warnings) == ("2", [])


def test_expressions_know_the_machine_and_what_it_uses():
    disks = [Disk(0, "vda", image="debian", image_id=4, source="/s/debian", size=2048), Disk(1, "vdb", image="data")]
    found = values(
        {
            "A": "$NAME:$VMID:$UNAME:$GNAME:$UID:$GID:$CPU:$VCPU:$MEMORY:$MINE",
            "B": '$DISK[SOURCE, IMAGE="debian"] $DISK[TARGET, DISK_ID=1] $IMAGE[FORMAT, IMAGE_ID=4]',
            "C": '$NIC[MAC, NETWORK="net-b"] $NETWORK[GATEWAY, NIC_ID=1] $NETWORK[NAME]',
            "D": "$USER[SSH_PUBLIC_KEY]",
            "E": "$GRAPHICS[PORT]",
        },
        nics=[nic(), nic(1, "net-b", values=NET_B)],
        disks=disks,
        template={"VCPU": "1"},
        owner=Owner("ann", "104", "users", "1", {"SSH_PUBLIC_KEY": "ssh-ed25519 AAAA o'brien@host"}),
        graphics=Graphics(port=5907),
        attributes={"MINE": "user attribute"},
    )
    assert found["A"] == "web-0:7:ann:users:104:1:0.5:1:128:user attribute"
    assert found["B"] == "/s/debian vdb raw"
    assert found["C"] == "02:00:0a:01:00:0a 192.168.77.1 net-a"
    assert found["D"] == "ssh-ed25519 AAAA o'brien@host"
    assert found["E"] == "5907"


def test_the_owner_is_oneadmin_unless_it_is_said():
    found = values({"A": "$UNAME:$UID:$GNAME:$GID", "B": "$USER[NAME]:$USER[ID]"})
    assert (found["A"], found["B"]) == ("oneadmin:0:oneadmin:0", "oneadmin:0")


@pytest.mark.parametrize("text", ["$USER[SSH_PUBLIC_KEY]", "$UID"])
def test_what_is_not_said_of_the_owner_is_empty_and_the_option_is_named(text):
    found, warnings = built({"A": f"<{text}>"}, owner=Owner("ann", uid="", gid=""))
    assert found.variables["A"] == "<>"
    assert len(warnings) == 1 and "the option owner (nebula_owner)" in warnings[0]
    _found, warnings = built({"A": "$NMAE"})
    assert "owner" not in warnings[0]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("$UNAME", True),
        ("a$uid", True),
        ("$GNAME:$GID", True),
        ("$USER[SSH_PUBLIC_KEY]", True),
        ("$USER", False),
        ("$UID[A]", False),
        (r"\$UNAME", False),
        ("$$UNAME", False),
        ("$NAME", False),
        ("UNAME", False),
    ],
)
def test_a_context_asks_for_its_owner_or_does_not(text, asks):
    assert variables.names_owner(Template.from_mapping({"CONTEXT": {"A": text}, "B": "$UNAME"})) == asks


def test_what_is_not_known_is_empty_and_named():
    found, warnings = built({"A": "<$NMAE>", "PASSWORD": "s3$cret"})
    assert (found.variables["A"], found.variables["PASSWORD"]) == ("<>", "s3")
    assert [text.split(":")[0] for text in warnings] == ["CONTEXT/A", "CONTEXT/PASSWORD"]
    assert "$NAME meant?" in warnings[0]
    assert "cret" not in "".join(warnings).replace("secret", "")
    assert "it holds $NMAE, which is not known" in warnings[0]
    assert "(line 1, column 3 of the value)" in warnings[1]


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("SET_HOSTNAME", "web-$NAEM", True),
        ("SSH_PUBLIC_KEY", "$SITE_KEY", True),
        ("GREETING", "your pass is no $SECRET_PLACE", False),
        ("CRYPTED_PASSWORD", "$SALT", False),
        ("API_KEY", "$SALT", False),
        ("DATABASE", "host=db password=$SWORDFISH", False),
    ],
)
def test_a_name_is_told_where_no_password_is_meant(name, text, named):
    (warning,) = built({name: text})[1]
    written = text[text.index("$") :]
    assert (f"it holds {written}, which is not known" in warning) == named
    assert (f"column {text.index('$') + 1} of the value" in warning) == (not named)
    assert named or written[1:] not in warning


def test_references_are_what_an_engine_looks_up():
    _vm, template = machine({"A": '$NETWORK[DNS, NAME="Public"]', "START_SCRIPT": "echo $HOME", "B": "$$X"})
    assert [(e.name, e.key, e.value) for e in variables.references(template)] == [("NETWORK", "NAME", "Public")]


@pytest.mark.parametrize(
    "value", ["it's", 'a "b" \\ `c` $(d) ${E} <&>', "line\nline", "Ünïcödé ☃", "]]>", "$$", "1.10"]
)
def test_values_arrive_as_they_are(value):
    assert values({"A": value})["A"] == value


def test_blanks_at_the_ends_stay_but_for_those_in_text():
    given = {"A": "  x y\t", "B": "key\n", "C": "\n\n"}
    found, warnings = built(given)
    assert {name: found.variables[name] for name in given} == given
    assert warnings == []
    text = "".join(f'{name} = "{value}",' for name, value in given.items()).rstrip(",")
    template = as_template(f"CONTEXT = [ {text} ]", "template x")
    assert template.vector("CONTEXT") == {"A": "x y", "B": "key", "C": ""}


def test_nothing_in_a_start_script_is_expanded():
    script = "#!/bin/sh\necho $NAME ${HOME} $(id) > /x\n"
    found = values({"START_SCRIPT": script})
    assert base64.b64decode(found["START_SCRIPT_BASE64"]).decode() == script
    assert found["START_SCRIPT"] == script


def test_a_start_script_without_expressions_is_sent_as_opennebula_sends_it():
    found = values({"START_SCRIPT": "touch /x"})
    assert found["START_SCRIPT"] == "touch /x"
    assert "START_SCRIPT_BASE64" not in found


def test_a_given_start_script_base64_is_kept():
    assert values({"START_SCRIPT": "$X", "START_SCRIPT_BASE64": "ZWNobwo="})["START_SCRIPT_BASE64"] == "ZWNobwo="


def test_names_a_shell_reserves_are_warned_of():
    _context, warnings = built({"UID": "0", "A": "b"})
    assert len(warnings) == 1
    assert "UID" in warnings[0]


@pytest.mark.parametrize("value", ["s3cret\udcff", "s3cret\0"])
def test_what_no_shell_can_hold_is_refused(value):
    vm, _template = machine()
    with pytest.raises(InvalidValue, match="context variable A") as caught:
        variables.build_context(vm, Template((("CONTEXT", (("A", value),)),)))
    assert "s3cret" not in str(caught.value)


def test_names_no_shell_takes_are_left_out_and_named():
    """OpenNebula writes them; a shell would take the line for a command."""
    found, warnings = built({"1A": "$(touch x)", "2": "$NMAE", "A": "b"})
    assert found.variables == {"A": "b", "TARGET": "sda", "DISK_ID": "0"}
    assert warnings == [
        f"CONTEXT/{name}: left out, as no shell takes that name: begin it with a letter" for name in ("1A", "2")
    ]


def test_a_plain_dollar_on_every_engine():
    """An attribute outside of CONTEXT holds it, and is not read again."""
    template = as_template(
        'PRICE = "5$"\nSPELL = "$$ $(id) ${X} $NAME, ]]"\nCONTEXT = [ COST = "$PRICE", SPELL = "<$SPELL>" ]',
        "template x",
    )
    vm, _template = machine()
    context, warnings = variables.build_context(vm, template)
    assert (context.variables["COST"], context.variables["SPELL"]) == ("5$", "<$$ $(id) ${X} $NAME, ]]>")
    assert warnings == []


def test_a_plain_dollar_in_yaml():
    template = as_template({"context": {"COST": "5$", "WORD": "$$HOME", "RUN": "$(id) ${X} $$"}}, "template x")
    vm, _template = machine()
    found = variables.build_context(vm, template)[0].variables
    assert (found["COST"], found["WORD"], found["RUN"]) == ("5$", "$HOME", "$(id) ${X} $$")


def test_the_warning_says_how_in_both_forms():
    _context, warnings = built({"A": "$NMAE"})
    assert "write $$ in YAML" in warnings[0]
    assert "an attribute outside of CONTEXT" in warnings[0]


def test_ten_thousand_variables():
    text = "CONTEXT = [ " + ",\n".join(f'V{number} = "it\'s $NAME {number}"' for number in range(10_000)) + " ]"
    vm, _template = machine()
    started = time.process_time()
    context, warnings = variables.build_context(vm, as_template(text, "template x"))
    rendered = context_sh.render(context.variables)
    assert time.process_time() - started < 5
    assert warnings == []
    assert len(context.variables) == 10_002
    assert context_sh.parse(rendered)["V9999"] == "it's web-0 9999"


def test_the_first_of_equal_names_wins():
    template = as_template("CONTEXT = [ a = 1, A = 2 ]\nCONTEXT = [ A = 3, B = 4 ]", "template x")
    vm, _template = machine()
    found = variables.build_context(vm, template)[0].variables
    assert (found["A"], found["B"]) == ("1", "4")


def test_the_file_that_the_old_documentation_shows():
    """Its values, unquoted and quoted; the names in upper case, as its own init.sh expects them."""
    vm, _template = machine(vm_id=85, nics=[nic(network="Public", ip="192.168.0.5", values={"DNS": "192.168.4.9"})])
    vm = replace(vm, context=replace(vm.context, target="sdb"))
    context, warnings = variables.build_context(vm, as_template(EXAMPLE, "template x"))
    assert context_sh.render(context.variables) == (
        "# Context variables generated by OpenNebula\n"
        "DISK_ID='0'\n"
        "DNS='192.168.4.9'\n"
        "FILES='/service/init.sh /service/certificates /service/service.conf'\n"
        "HOSTNAME='MAINHOST'\n"
        "IP_GEN='10.0.0.85'\n"
        "IP_PRIVATE='192.168.0.5'\n"
        "TARGET='sdb'\n"
    )
    assert warnings == []


def test_the_second_example_of_the_old_documentation_with_its_comma():
    text = r"""
        CONTEXT = [
          hostname  = "$NAME",
          ip_public = "$NIC[IP, NETWORK=\"Public\"]",
          username  = virtualuser,
          files     = "/vms_configuration/id_rsa.pub /vms_configuration/init.sh"
        ]
        """
    nics = [nic(), nic(1, "Public", ip="192.168.4.20")]
    vm, _template = machine(nics=nics)
    found = variables.build_context(vm, as_template(text, "template x"))[0].variables
    assert (found["HOSTNAME"], found["IP_PUBLIC"], found["USERNAME"]) == ("web-0", "192.168.4.20", "virtualuser")
    assert found["FILES"] == "/vms_configuration/id_rsa.pub /vms_configuration/init.sh"


def test_the_container_of_the_old_documentation():
    text = r"""
CONTEXT = [
   hostname  = "$NAME.example.org",
   nameserver        = "$NETWORK[DNS, NAME=\"Public\" ]",
   firewall  = "
                [*]
                111.111.111.0/24

                [22]
                222.222.0.0/16
               ",
   files = "/srv/cloud/one/vps145/init.sh /srv/cloud/one/vps145/id_rsa.pub" ]
"""
    vm, _template = machine(name="vps145", nics=[nic(network="Public", values={"DNS": "192.168.4.9"})])
    found = variables.build_context(vm, as_template(text, "template x"))[0].variables
    assert (found["HOSTNAME"], found["NAMESERVER"]) == ("vps145.example.org", "192.168.4.9")
    assert [line.strip() for line in found["FIREWALL"].splitlines()] == [
        "[*]", "111.111.111.0/24", "", "[22]", "222.222.0.0/16"
    ]  # fmt: skip


def test_files_of_the_datastore():
    init = Image(6, "init.sh", ImageType.CONTEXT, source="/datastores/2/06init")
    its = Image(7, "it's.txt", ImageType.CONTEXT, source="/datastores/2/07its")
    text = '$FILE[IMAGE="init.sh"] $FILE[IMAGE_ID=7]'
    found, warnings = built({"FILES_DS": text, "FILES": "/srv/a"}, images=[init, its])
    assert found.files == (
        ContextFile("/srv/a", "a"),
        ContextFile("/datastores/2/06init", "init.sh"),
        ContextFile("/datastores/2/07its", "it's.txt"),
    )
    assert warnings == []


def test_one_name_from_two_places_is_refused():
    init = Image(6, "init.sh", ImageType.CONTEXT, source="/datastores/2/06init")
    with pytest.raises(InvalidValue, match=r"image 'init\.sh': '/srv/init\.sh' has the same"):
        built({"FILES_DS": '$FILE[IMAGE="init.sh"]', "FILES": "/srv/init.sh"}, images=[init])


def test_aliases_are_told_below_their_nic():
    more = Alias(
        2, 0, "net-a", "br-a", "02:00:0a:01:00:0b", "10.1.0.11", parent_id=0, alias_id=1, network_values=NET_A,
        options={"GATEWAY": "10.1.0.9", "NAME": "more"},
    )  # fmt: skip
    far = replace(more, nic_id=3, parent_id=1, alias_id=0, external=True, options={"EXTERNAL": "true"})
    context, warnings = built(
        {"NETWORK": "YES", "MORE": "$NIC_ALIAS[IP, PARENT_ID=1]"}, nics=[nic(), nic(1)], aliases=[more, far]
    )
    found = context.variables
    assert warnings == [] and found["MORE"] == "10.1.0.11"
    assert {name: found[f"ETH0_ALIAS1_{name}"] for name in ("IP", "MAC", "MASK", "GATEWAY", "EXTERNAL", "IP6")} == {
        "IP": "10.1.0.11", "MAC": "02:00:0a:01:00:0b", "MASK": "255.255.0.0", "GATEWAY": "10.1.0.9", "EXTERNAL": "",
        "IP6": "",
    }  # fmt: skip
    assert (found["ETH1_ALIAS0_EXTERNAL"], found["ETH0_IP"]) == ("YES", "10.1.0.10")
    assert {name for name in found if name.startswith("ETH0_ALIAS1_")} == {
        f"ETH0_ALIAS1_{name}" for name, _attributes in variables.NETWORK_VARIABLES
    }
    assert not any(name.startswith("ETH") for name in built({}, nics=[nic()], aliases=[more])[0].variables)
