# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.text.variable_substitution import (
    Expression,
    Scope,
    expressions,
    refused_by_opennebula,
    replace_expressions,
)

SCOPE = Scope(
    singles={"NAME": "web-0", "VMID": "85", "EMPTY": "", "LOOP": "$NAME"},
    vectors={
        "NIC": [
            {"IP": "10.1.0.10", "NETWORK": "net-a", "NIC_ID": "0"},
            {"IP": "192.168.77.33", "NETWORK": "Public ]x", "NIC_ID": "1"},
        ],
        "NETWORK": [{"DNS": "192.168.4.9", "NETWORK": "Public", "NAME": "Public"}],
        "FILE": [{"IMAGE": "init.sh", "": "/datastores/2/06init:'init.sh' "}],
    },
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$NAME.example.org", "web-0.example.org"),
        ("10.0.0.$VMID", "10.0.0.85"),
        ("$name", "web-0"),
        ("$NAME$VMID", "web-085"),
        ("$NAME, and more", "web-0, and more"),
        ("[$NAME]", "[web-0]"),
        ("$EMPTY|", "|"),
        ("$NIC[IP]", "10.1.0.10"),
        ("$NIC[ip]/$Nic[ Nic_Id ]", "10.1.0.10/0"),
        ('$NIC[IP, NETWORK="net-a"]', "10.1.0.10"),
        ("$NIC[IP, NIC_ID=1]", "192.168.77.33"),
        ('$NIC[IP,NETWORK="Public ]x"]', "192.168.77.33"),
        (r"$NETWORK[DNS, NAME=\"Public\"]", "192.168.4.9"),
        ('$NETWORK[DNS, NETWORK="Public" ]', "192.168.4.9"),
        ("$NETWORK[DNS, NETWORK='Public']", "192.168.4.9"),
        ('$NETWORK[DNS,\n  NAME = "Public"\n]', "192.168.4.9"),
        ('$FILE[IMAGE="init.sh"]$FILE[IMAGE="init.sh"]', "/datastores/2/06init:'init.sh' " * 2),
        # What an expression gives is not read again.
        ("$LOOP", "$NAME"),
        # No name, no expression.
        ("$", "$"),
        ("a $ b", "a $ b"),
        ("$$", "$$"),
        ("$(hostname) ${NAME} $1 $? `id`", "$(hostname) ${NAME} $1 $? `id`"),
        # After a backslash, as in OpenNebula: both stay.
        (r"\$NAME", r"\$NAME"),
        (r"\\$NAME", r"\\web-0"),
        (r"\\\$NAME $NAME", r"\\\$NAME web-0"),
        (r"\$$NAME", r"\$web-0"),
        (r"C:\$NIC[IP]", r"C:\$NIC[IP]"),
        # The character after an expression is text, whatever it is: OpenNebula's lexer has read it with that.
        (r"$NAME\user", r"web-0\user"),
        (r"$NAME\$VMID", r"web-0\85"),
        (r"$NIC[IP]\$NAME", r"10.1.0.10\web-0"),
        (r'$NIC[IP, NETWORK="net-a"]\$NAME', r"10.1.0.10\web-0"),
        (r"$NAME\\$VMID", r"web-0\\$VMID"),
        (r"$NAME\\\$VMID", r"web-0\\\85"),
        (r"$NAME \$VMID", r"web-0 \$VMID"),
        (r"$NAME.\$VMID", r"web-0.\$VMID"),
        (r"$NAME\$VMID\$NAME", r"web-0\85\web-0"),
        (r"$EMPTY\$NAME", r"\web-0"),
        (r"$NAME$VMID\$NAME", r"web-085\web-0"),
        (r"\$NAME\$VMID", r"\$NAME\$VMID"),
        (r"$NAME[0\$VMID", r"web-0[0\$VMID"),
        (r"$NAME[\$VMID", r"web-0[\$VMID"),
        ("$NAME\\", "web-0\\"),
        # The way to write a plain one.
        ("$$NAME", "$NAME"),
        ("$$$NAME", "$$NAME"),
        ("$$NIC[IP]", "$NIC[IP]"),
        ("pa$$word", "pa$word"),
        # Brackets that hold no selector are text.
        ("$NAME[0]", "web-0[0]"),
        ("$NAME[", "web-0["),
        ("$NAME[IP, NETWORK]", "web-0[IP, NETWORK]"),
        ("$NAME[IP, NETWORK x]", "web-0[IP, NETWORK x]"),
        ('$NAME[IP, NETWORK="x"', 'web-0[IP, NETWORK="x"'),
        ("", ""),
    ],
)
def test_expand(text, expected):
    assert replace_expressions(text, SCOPE) == (expected, [])


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("$NMAE", "it holds $NMAE, which is not known (is $NAME meant?)"),
        ("web-$SITE_1.example", "it holds $SITE_1, which is not known"),
        ("http://$SITE:80/", "it holds $SITE, which is not known"),
        ("$hunter2", "it holds a $NAME that is not known (line 1, column 2 of the value)"),
        ("$NIC", "$NIC needs an attribute: $NIC[…]"),
        ("$NIX[IP]", "it holds $NIX[…], which the machine does not have (is $NIC meant?)"),
        ("$nix[IP]", "it holds a $VECTOR[…] that it does not have (line 1, column 2 of the value) (is $NIC meant?)"),
        ("$NIC[IPP]", "NIC does not have attribute IPP (is IP meant?)"),
        ('$NIC[IP, NETWORK="net-b"]', "there is no NIC with that NETWORK (is net-a meant?)"),
        ('$NIC[IP, NETWROK="net-a"]', "NIC can't be chosen by that key (is NETWORK meant?)"),
    ],
)
def test_unknown_is_empty_and_says_why(text, clause):
    expanded, clauses = replace_expressions(f"<{text}>", SCOPE)
    assert clauses == [clause] and "$" not in expanded


@pytest.mark.parametrize(
    ("text", "place"),
    [
        # A password, one with the variable's letter case, a hash of crypt(3), one of bcrypt.
        ("s3cret$hunter2", "line 1, column 7"),
        ("s3cret$SWORDFISH", "line 1, column 7"),
        ("$6$SWORDFISH$SWORD", "line 1, column 3"),
        ("$2b$12$SWORDFISH", "line 1, column 7"),
        ("$SWORDFISH!", "line 1, column 1"),
        ("ann:$SWORDFISH", "line 1, column 5"),
        ("$SWORDfish", "line 1, column 1"),
        ("a\n bc $swordfish", "line 2, column 5"),
        (r"\\$swordfish", "line 1, column 3"),
    ],
)
def test_what_may_be_part_of_a_password_is_told_by_its_place(text, place):
    _expanded, clauses = replace_expressions(text, SCOPE)
    assert f"({place} of the value)" in clauses[0]
    assert not any(word in clause.lower() for word in ("hunter2", "sword") for clause in clauses)


def test_where_secrets_are_meant_no_word_is_repeated():
    assert replace_expressions("$SITE", SCOPE, secret=True)[1] == [
        "it holds a $NAME that is not known (line 1, column 1 of the value)"
    ]


def test_in_text_of_several_lines_name_and_place_are_told():
    assert replace_expressions("#!/bin/sh\necho $HOME\n", SCOPE)[1] == [
        "it holds $HOME, which is not known (line 2, column 6 of the value)"
    ]


def test_a_warning_does_not_repeat_what_may_be_a_password():
    _text, warnings = replace_expressions("s3cret$hunter2$swordfish", SCOPE)
    assert warnings
    assert not any(word in warning.lower() for word in ("hunter2", "swordfish", "s3cret") for warning in warnings)


def test_expressions_lists_what_must_be_looked_up():
    assert expressions('$NAME:$NETWORK[DNS, NAME="Public"] $$NIC[IP] $(x) $FILE[IMAGE=init.sh]') == [
        Expression("NAME"),
        Expression("NETWORK", "DNS", "NAME", "Public"),
        Expression("FILE", "", "IMAGE", "init.sh"),
    ]


@given(st.one_of(st.text(), st.lists(st.sampled_from(["$", "\\", "a", "NAME", "[", "é", "1"])).map("".join)))
def test_any_text_can_be_written(text):
    """A $ before each run of $ that a name follows; one after a backslash is none of the run."""
    escaped = re.sub(
        r"(\\*)(\$+)(?=[A-Za-z_])", lambda found: found.group() + "$" * (len(found[2]) > len(found[1]) % 2), text
    )
    assert replace_expressions(escaped, SCOPE) == (text, [])


@given(st.lists(st.sampled_from(["$", "NAME", "NIC", "[", "]", "IP", ",", "=", '"', "\\", "'", " ", "x"])).map("".join))
def test_never_raises_and_text_without_dollars_is_kept(text):
    expanded, _warnings = replace_expressions(text, SCOPE)
    if "$" not in text:
        assert expanded == text


@pytest.mark.parametrize(
    "part",
    [
        *("$", "$NIC[", '$NIC[IP,NETWORK="', "$NIC[IP, ", "$A[b=", "$unknown "),
        "$NAME[\t",
        "[[",
        "\\",
        "\\$",
        "\\\\$A",
        "$A ",
    ],
)
def test_time_is_linear(part):
    text = part * (65536 // len(part))
    start = time.process_time()
    replace_expressions(text, SCOPE)
    refused_by_opennebula(text)
    refused_by_opennebula("$A" + " " * 65536)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "offset", "found"),
    [
        ("5$$", 1, "$$"),
        ("$$NAME", 0, "$$"),
        ("a $(hostname)", 2, "$("),
        ("${NAME}", 0, "${"),
        ("5$", 1, "a $ that no name follows"),
        ("5$ each", 1, "a $ that no name follows"),
        ("$NAME$", 5, "a $ that no name follows"),
        ("$NAME, hello", 5, "a , right after a variable"),
        ("$NAME , hello", 6, "a , right after a variable"),
        ("$NIC[IP], $NAME", 8, "a , right after a variable"),
        ("[$NIC[IP]]", 9, "a ] right after a variable"),
        ("[$NAME]", 6, "a ] right after a variable"),
        ('[$NIC[IP, NETWORK="a"] ]', 23, "a ] right after a variable"),
        ("$NAME=x", 5, "a = right after a variable"),
        ("$NAME[IP", 5, "a [ right after a variable"),
        ("a ]]> b", 2, "]]>"),
        ("]]> $$", 0, "]]>"),
        (r"$NAME\$", 6, "a $ that no name follows"),
        (r"$NAME\$(id)", 6, "$("),
        (r"$NAME\$B,", 8, "a , right after a variable"),
        ("$$ ]]>", 0, "$$"),
    ],
)
def test_what_opennebula_refuses(text, offset, found):
    assert refused_by_opennebula(text) == (offset, found)


@pytest.mark.parametrize(
    "text",
    [
        "", "$NAME", "$NAME.example.org", "10.0.0.$VMID", "$NIC[IP]", '$NETWORK[DNS, NAME="Public" ]', "$UNAME:$GNAME",
        "$CPU/$VCPU/$MEMORY", "a, b ] c = [d]", r"\$X", r"\$(id)", r"\\ ` \n", "$NAME a, b", "$A$B$C[D]", "it's $5",
        r"$DOMAIN\user", r"$DOMAIN\$USER", r"$A\\$(id)", r"$A \$(id)",
    ],
)  # fmt: skip
def test_what_opennebula_takes(text):
    assert refused_by_opennebula(text) is None


@given(st.lists(st.sampled_from(["$", "A", "[", "]", ",", "=", " ", '"', "\\", "]]>", "x", "1"])).map("".join))
def test_what_is_refused_is_named_where_it_stands(text):
    found = refused_by_opennebula(text)
    if found is None:
        assert "]]>" not in text
        return
    offset, what = found
    assert text[offset] in "$],=["
    assert text[offset] in what
