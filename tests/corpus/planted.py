"""Made-up credentials, valid in form, and places in code to plant them: what detection of secrets is measured on.

The kinds and their forms are data (``data/credential_kinds.yaml``); everything is drawn from a seed. Nothing here knows
how the project detects anything.
"""

from __future__ import annotations

import base64
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "data/credential_kinds.yaml").read_text())
_FIELD = re.compile(r"\{(?:(\d+):([a-z0-9]+)|pem:([A-Z ]+)|(crc32))\}")
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# How DER begins for a 2048-bit RSA key, PKCS 8, a P-256 key, and how an OpenPGP secret key packet begins, in base64.
_PEM_STARTS = {
    "RSA PRIVATE KEY": "MIIEowIBAAKCAQEA",
    "PRIVATE KEY": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "EC PRIVATE KEY": "MHcCAQEEI",
    "PGP PRIVATE KEY BLOCK": "lQOYB",
}
_PEM_LENGTHS = {"RSA PRIVATE KEY": 1592, "PRIVATE KEY": 1624, "EC PRIVATE KEY": 164, "PGP PRIVATE KEY BLOCK": 1700}


@dataclass(frozen=True)
class Planted:
    """A file with one credential in it."""

    kind: str
    place: str
    path: str
    text: str
    secrets: tuple[str, ...]
    """What must not be left: the credential's secret parts; of a PEM block each line of the body."""


def credential(kind: dict[str, Any], draw: random.Random, form: str = "form") -> str:
    """One made-up credential of a kind."""

    def field(match: re.Match[str]) -> str:
        count, alphabet, pem, checksum = match.groups()
        if pem:
            return _pem(pem, draw)
        if checksum:
            number, digits = zlib.crc32("".join(drawn).encode()), ""
            while number:
                number, digit = divmod(number, 62)
                digits = _BASE62[digit] + digits
            return digits.rjust(6, "0")
        drawn.append("".join(draw.choices(KINDS["alphabets"][alphabet], k=int(count))))
        return drawn[-1]

    drawn: list[str] = []
    return _FIELD.sub(field, kind[form])


def _pem(label: str, draw: random.Random) -> str:
    body = _PEM_STARTS[label] + base64.b64encode(draw.randbytes(_PEM_LENGTHS[label])).decode()
    body = body[: _PEM_LENGTHS[label]]
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    if label.startswith("PGP"):
        lines = ["Version: GnuPG v2", "", *lines, "=" + base64.b64encode(draw.randbytes(3)).decode()]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


NAMED = {  # the value is assigned to a name that says what it is
    "python": ("settings.py", 'import os\n\nDEBUG = True\n{name} = "{value}"\n\n\ndef connect(timeout=30):\n    return os.environ.get("HOST"), timeout\n'),
    "environment": ("deploy/.env.sh", "#!/bin/sh\nPORT=8080\n{name}={value}\nLOG_LEVEL=info\n"),
    "json": ("config.json", '{{\n  "port": 8080,\n  "{name}": "{escaped}",\n  "debug": false\n}}\n'),
    "yaml": ("values.yaml", "service:\n  port: 8080\n  {name}: {escaped}\n  replicas: 3\n"),
    "go": ("main.go", 'package main\n\nfunc main() {{\n\t{name} := `{value}`\n\trun({name}, 10)\n}}\n'),
    "typescript": ("client.ts", "export const options = {{\n  retries: 3,\n  {name}: '{escaped}',\n  timeout: 1000,\n}};\n"),
}  # fmt: skip
BARE = {  # nothing but its form says what it is
    "argument": ("client.js", "const client = new Client('{escaped}', {{ retries: 3 }});\nclient.start();\n"),
    "comment": ("notes.py", "# it worked when I tried this one yesterday:\n# {commented}\ndef work(item):\n    return item.next()\n"),
    "sql": ("seed.sql", "INSERT INTO parameters (id, content) VALUES (4, '{value}');\nINSERT INTO parameters (id, content) VALUES (5, 'blue');\n"),
    "test": ("test_api.rb", 'def test_it_answers\n  response = get("/things", "{escaped}")\n  assert_equal 200, response.status\nend\n'),
}


def planted(each: int, seed: int) -> list[Planted]:
    """``each`` credentials of every kind in every place."""
    draw = random.Random(seed)
    found = []
    for kind in KINDS["kinds"]:
        for place, (path, template) in {**NAMED, **BARE}.items():
            for number in range(each):
                value = credential(kind, draw)
                name = kind["names"][number % len(kind["names"])]
                text = _fill(template, name, value)
                secrets = list(_secret_parts(value))
                if "with" in kind:  # a pair: the second half stands on the line below, as it does in the wild
                    second = credential(kind, draw, "with")
                    line = next(line for line in text.split("\n") if value in line)
                    other = line.replace(value, second).replace(name, kind["with_names"][number % len(kind["names"])])
                    text = text.replace(line, line + "\n" + other)
                    secrets.append(second)
                found.append(Planted(kind["kind"], place, path, text, tuple(secrets)))
    return found


def _fill(template: str, name: str, value: str) -> str:
    escaped = value.replace("\n", "\\n")
    return template.format(name=name, value=value, escaped=escaped, commented=value.replace("\n", "\n# "))


def _secret_parts(value: str) -> list[str]:
    if value.startswith("-----BEGIN"):
        return [line for line in value.split("\n") if len(line) > 20 and not line.startswith(("-----", "Version"))]
    if "://" in value:
        return [value.split(":")[2].split("@")[0]]
    return [value]
