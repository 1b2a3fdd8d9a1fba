"""Credentials in source code: kingfisher's rules, and the issuers' forms that those rules want a keyword beside.

kingfisher (MongoDB's, Apache-2.0) scans with some 490 rules in one pass of Vectorscan; scanning never uses the network.
Its rules are written for alarms that somebody looks at, so several ask for the service's name on the same line. A
corpus is better off with a lost constant than with a live key: the forms below are so long or so peculiar that
nothing else has them, and are taken without a name beside them (bench/redaction.py measures both).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from megatron_snow.corpus.spans import KEY, PASSWORD, Span

_HELPERS = {"betterleaks.aws-secret-access-key"}  # found beside another finding, not reported by itself, and the secret half of it
_URI = "betterleaks.generic-credential-uri"
# Ours: what documentation writes where a password would stand; all 33 findings in 40,260 installed files were of this sort (LOG.md, 2026-11-26).
_NO_PASSWORD = {b"pass", b"passwd", b"password", b"pwd", b"secret", b"xxx", b"***", b"bar", b"foo", b"test", b"example", b"<password>", b"your_password"}
# Forms: the issuers' documentation, and for Facebook, Mailgun, Mailchimp, Twitter and AWS Meli et al. (NDSS 2019); ours beside theirs: any Facebook token of
# 60 characters, hexadecimal Mailgun keys, Twitter ids of ten digits or more, AWS ids in base 32, temporary ones too.
_FORMS = (  # literal to begin or to find first (most files hold none), and form
    ("google-oauth-client-secret", b"GOCSPX-", re.compile(rb"(?<![\w-])GOCSPX-[\w-]{28}(?![\w-])")),
    ("facebook-access-token", b"EAA", re.compile(rb"(?<![A-Za-z0-9])EAA(?:CEdEose0cBA)?[A-Za-z0-9]{60,}(?![A-Za-z0-9+/=])")),
    ("mailgun-api-key", b"key-", re.compile(rb"(?<![\w-])key-[0-9a-f]{32}(?![\w-])")),
)
_TAILS = (  # the end of a form, which begins with a literal and so is found fast, and what stands before it
    ("mailchimp-api-key", re.compile(rb"-us[0-9]{1,2}(?![\w-])"), re.compile(rb"(?<![\w-])[0-9a-f]{32}\Z")),
    ("telegram-bot-token", re.compile(rb":AA[\w-]{33}(?![\w-])"), re.compile(rb"(?<![\w:.-])[0-9]{8,10}\Z")),
    ("twitter-access-token", re.compile(rb"-[A-Za-z0-9]{40}(?![\w-])"), re.compile(rb"(?<![\w-])[1-9][0-9]{9,19}\Z")),
    ("azure-storage-key", re.compile(rb"==(?![\w=])"), re.compile(rb"(?<![\w+/-])[A-Za-z0-9+/]{86}\Z")),  # 64 bytes in base64
)
_HEAD = 90  # bytes before a tail that are looked at
# Hashes of lock files and subresource integrity, and data URLs, look like Azure's keys but for the name before them.
_HASH_BEFORE = re.compile(rb"(?i)(?:sha-?512|sha-?384|integrity|digest|hash|checksum|base64,)[^\n]{0,24}\Z")
_BODY = re.compile(rb"[A-Za-z0-9+/]{30}")  # of a private key; code that reads and writes keys names their first and last lines without one
_AWS_ID = re.compile(rb"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])")
_AWS_SECRET = re.compile(rb"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])")
_AWS_NEAR = 300  # bytes around an access key's id in which its secret is looked for (ours: three lines)
_VARIED = re.compile(rb"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])", re.DOTALL)


@cache
def scanner() -> Any:
    """kingfisher's scanner of this process.

    The first one on a machine compiles the rules (about 8 s) into a cache of the user's; the next ones load it (1 s).
    """
    import kingfisher_sdk

    return kingfisher_sdk.Scanner(kingfisher_sdk.Rules())


def secrets(content: bytes) -> Iterator[Span]:
    """The credentials in a text's UTF-8; spans may overlap."""
    yield from _by_rules(content)
    for kind, literal, form in _FORMS:
        if literal in content:
            yield from (Span(match.start(), match.end(), KEY, kind) for match in form.finditer(content) if _varied(kind, match.group()))
    for kind, tail, head in _TAILS:
        for end in tail.finditer(content):
            start = head.search(content, max(0, end.start() - _HEAD), end.start())
            if start and _varied(kind, content[start.start() : end.end()]) and not (kind == "azure-storage-key" and _is_hash(content, start.start())):
                yield Span(start.start(), end.end(), KEY, kind)
    if b"AKIA" in content or b"ASIA" in content:
        yield from _aws_pairs(content)


def _varied(kind: str, value: bytes) -> bool:
    """Whether a value in mixed case is as mixed as chance makes it: ``AAAA...`` in documentation is none."""
    return kind.startswith("mail") or _VARIED.search(value) is not None


def _is_hash(content: bytes, start: int) -> bool:
    return _HASH_BEFORE.search(content, max(0, start - 40), start) is not None


def _by_rules(content: bytes) -> Iterator[Span]:
    for finding in scanner().scan(content):
        if not finding.visible and finding.rule_id not in _HELPERS:
            continue
        start, end = finding.location["start_offset"], finding.location["end_offset"]
        if finding.rule_id == _URI:
            if content[start:end].lower() not in _NO_PASSWORD:
                yield Span(start, end, PASSWORD, "password-in-url")
        elif not finding.rule_id.endswith("private-key") or _BODY.search(content, start, end):
            yield Span(start, end, KEY, finding.rule_id.rpartition(".")[2])


def _aws_pairs(content: bytes) -> Iterator[Span]:
    """Access key ids, and near them the 40 characters of the secret: neither says by itself that it is one."""
    for identifier in _AWS_ID.finditer(content):
        if identifier.group().endswith(b"EXAMPLE"):  # as Amazon's documentation writes them
            continue
        yield Span(identifier.start(), identifier.end(), KEY, "aws-access-key-id")
        for secret in _AWS_SECRET.finditer(content, max(0, identifier.start() - _AWS_NEAR), identifier.end() + _AWS_NEAR):
            if _VARIED.search(secret.group()):
                yield Span(secret.start(), secret.end(), KEY, "aws-secret-access-key")
