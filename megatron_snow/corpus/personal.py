"""Personal data in source code: e-mail addresses, public IP addresses, names of users.

All rules are ours; each leaves alone what cannot be a person's. Copyright lines stay: licences ask for them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from megatron_snow.corpus.spans import ADDRESS, EMAIL, NAME, Span

# A last label of two letters (every country) or one of those in wide use: "a@self.weight" and "icon@2x.png" are no addresses.
_LAST_LABELS = (
    b"com|org|net|edu|gov|mil|int|info|biz|name|pro|mobi|dev|app|cloud|tech|online|site|email|academy|agency|engineering|"
    b"systems|solutions|software|studio|xyz|arpa"
)
_LOCAL = re.compile(rb"(?<![\w.%+/-])[A-Za-z0-9_](?:[\w.%+-]{0,62}[\w%+-])?\Z")  # RFC 5321: 64 characters at most
_HOST = re.compile(rb"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:[A-Za-z]{2}|" + _LAST_LABELS + rb"))(?![\w(@-]|\.\w)")
# RFC 2606's names for documentation, and others that documentation writes (ours); "git" is the account of an ssh address.
_NO_PERSONS_HOST = re.compile(
    rb"(?i)(?:^|\.)(?:example\.(?:com|org|net|edu)|(?:test|invalid|example|localhost)(?:\.\w+)?|domain\.(?:com|tld)|email\.com|foo\.com|bar\.com)$"
)
_NO_PERSON = {b"git", b"noreply", b"no-reply", b"donotreply"}

# Expressions that begin with a literal or a class are searched for fast by Python's re, those that begin by looking back are not.
_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4_TAIL = re.compile(rb"\." + _OCTET + rb"\." + _OCTET + rb"\." + _OCTET + rb"(?![\w-]|\.\d|/\d)")  # "/24" makes it a network
_IPV4_HEAD = re.compile(rb"(?:(?<![\w.:/-])|(?<=://))" + _OCTET + rb"\Z")
_VERSION_BEFORE = re.compile(rb"(?i)(?:version|release|build|\bver|\bv|[=<>~!^]=|\boid|section|rfc|\bchapter)[^\n]{0,20}\Z")
# "<h4 class="title">43.6.4.5. LOOP": a heading's number, as DocBook and the like print it; an address that ends a sentence does not begin an element.
_SECTION_BEFORE, _SECTION_AFTER = re.compile(rb">\s?\Z"), re.compile(rb"\.(?:\s|&nbsp;|&#160;|\xc2\xa0)")
_VERSION_PARTS = 32  # four numbers all below this are a version or a section number: (32/256)^4 of the addresses, or 0.02 %, look so
_IPV6 = re.compile(rb"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:/])")  # 2000::/3: all that is given out (IANA)

_NOT_A_USER = set(
    (
        b"user users username user_name user1 user2 admin administrator public default all shared guest root runner runneradmin ubuntu debian centos "
        b"fedora vagrant travis circleci jenkins builder build ec2-user azureuser node app dev git pi you me myself to my foo bar baz name myname "
        b"yourname your_name your-name someone somebody test tester example jovyan docker hadoop postgres www linuxbrew alice bob index local lib bin "
        b"src "
    ).split()
)
_LOGIN = rb"([A-Za-z][\w.-]{0,31})"
_NAMES = (  # kind, literals one of which such a place holds, expression whose group is the name
    ("home folder", (b"/home/", b"/Users/"), re.compile(rb"/(?<![\w.~-]/)(?:home|Users)/" + _LOGIN + rb"(?=/)")),
    (
        "home folder",
        (b":\\Users\\", b":\\\\Users\\\\", b":\\Documents and"),
        re.compile(rb":(?<=\b[A-Za-z]:)\\{1,2}(?:Users|Documents and Settings)\\{1,2}" + _LOGIN + rb"(?=\\)"),
    ),
    ("note", (b"TODO(", b"FIXME(", b"XXX(", b"HACK(", b"NOTE(", b"BUG("), re.compile(rb"[TFXHNB](?:ODO|IXME|XX|ACK|OTE|UG)\(@?([a-z][a-z0-9._]{1,31})\)")),
    ("author", (b"author", b"Author"), re.compile(rb"(?m)[@\\][aA]uthor:?[ \t]+([^\n\r<(*,@]{2,60}?)[ \t]*(?=$|[<(*,@\r])")),
)

# A handle that is called or thanked; "wrapped by @staticmethod" is none.
_HANDLE = re.compile(rb" @([A-Za-z0-9][A-Za-z0-9-]{1,38})(?![\w./(-])")
_CALLED = re.compile(
    rb"(?i)\b(?:cc|ping|thanks(?: to)?|thank you|credits?(?: to| goes to)?|courtesy of|"
    rb"(?:created|written|reported|suggested|contributed|implemented|authored|fixed|made|found) by):?\Z"
)


def email_addresses(content: bytes) -> Iterator[Span]:
    """Addresses of persons: no documentation hosts (RFC 2606 and their like), no ``git@``, no ``noreply@``."""
    at = content.find(b"@")
    while at >= 0:
        host = _HOST.match(content, at)
        local = _LOCAL.search(content, max(0, at - 65), at) if host else None
        if (
            host
            and local
            and local.group().lower() not in _NO_PERSON
            and not _NO_PERSONS_HOST.search(host.group(1))
            and b".noreply." not in b"." + host.group(1)
        ):
            yield Span(local.start(), host.end(), EMAIL, "e-mail")
        at = content.find(b"@", at + 1)


def ip_addresses(content: bytes) -> Iterator[Span]:
    """Public addresses: not loopback, private, link-local, multicast, documentation or reserved (IANA's registries), and no version numbers."""
    for tail in _IPV4_TAIL.finditer(content):
        head = _IPV4_HEAD.search(content, max(0, tail.start() - 8), tail.start())
        if head is None or _VERSION_BEFORE.search(content, max(0, head.start() - 32), head.start()):
            continue
        if _SECTION_BEFORE.search(content, max(0, head.start() - 2), head.start()) and _SECTION_AFTER.match(content, tail.end()):
            continue
        address = content[head.start() : tail.end()]
        if max(map(int, address.split(b"."))) >= _VERSION_PARTS and _public(address):
            yield Span(head.start(), tail.end(), ADDRESS, "IPv4")
    for match in _IPV6.finditer(content):
        if _public(match.group()):
            yield Span(match.start(), match.end(), ADDRESS, "IPv6")


def _public(text: bytes) -> bool:
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def user_names(content: bytes) -> Iterator[Span]:
    """Login names in paths of home folders, in ``TODO(name)``, after ``@author``, and handles that are thanked or called."""
    for kind, literals, pattern in _NAMES:
        if any(literal in content for literal in literals):
            for match in pattern.finditer(content):
                if match.group(1).lower() not in _NOT_A_USER:
                    yield Span(match.start(1), match.end(1), NAME, kind)
    for match in _HANDLE.finditer(content) if b" @" in content else ():
        if _CALLED.search(content, max(0, match.start() - 24), match.start()) and match.group(1).lower() not in _NOT_A_USER:
            yield Span(match.start(1), match.end(1), NAME, "handle")
