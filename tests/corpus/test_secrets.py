"""Detection of credentials on planted ones of the twenty commonest kinds, and on code that holds none."""

from __future__ import annotations

import hashlib
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from megatron_snow.corpus.redaction import Redactor
from megatron_snow.corpus.secrets import secrets
from megatron_snow.corpus.settings import RedactionSettings
from megatron_snow.corpus.spans import PASSWORD
from tests.corpus.planted import KINDS, planted


def test_planted_credentials_are_not_left() -> None:
    """bench/redaction.py measures with more; the goal is 95 %."""
    redactor = Redactor(RedactionSettings())
    found: Counter[str] = Counter()
    every = planted(2, seed=20)
    for one in every:
        text = redactor.redact(one.text).text
        found[one.kind] += not any(secret in text for secret in one.secrets)
        assert redactor.redact(text).text == text  # what is redacted stays as it is
    assert len(found) == len(KINDS["kinds"]) == 20
    assert found.total() >= 0.98 * len(every)
    assert min(found.values()) >= 0.8 * len(every) / 20, found


def test_the_code_around_a_secret_stays() -> None:
    redactor = Redactor(RedactionSettings())
    for one in planted(1, seed=3):
        if len(one.secrets) == 1 and one.place == "python" and "://" not in one.text:
            assert redactor.redact(one.text).text == one.text.replace(one.secrets[0], "<KEY>")


@pytest.mark.parametrize(
    "text",
    [
        "integrity: 'sha512-" + "Ab3" * 28 + "Qw=='",
        '"dist": {"shasum": "' + hashlib.sha1(b"x").hexdigest() + '"}',
        f"sha256 = '{hashlib.sha256(b'x').hexdigest()}'",
        "commit 2c26b46b68ffc68ff99b453c1d30413413422d70",
        "uuid = '123e4567-e89b-12d3-a456-426614174000'",
        "url = 'https://user:password@example.com/'  # the form of it",
        "if a == b and key-value == us12: pass",
        'BEGIN = "-----BEGIN PRIVATE KEY-----\\n"\nEND = "\\n-----END PRIVATE KEY-----\\n"',
        "url('data:text/css;base64," + "Ab3" * 28 + "Qw==')",
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
        "AIza is how they begin, AKIA too, and xoxb- and ghp_",
        "x = 'A' * 40 + 'EAA' + '" + "A" * 70 + "'",
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert list(secrets(text.encode())) == []


def test_a_password_in_a_url_is_a_password() -> None:
    text = "DATABASE_URL=mysql://app:x8Kd02mqLz@db.internal:3306/shop\n"
    (span,) = secrets(text.encode())
    assert (span.placeholder, text[span.start : span.end]) == (PASSWORD, "x8Kd02mqLz")


def test_the_standard_library_holds_none() -> None:
    """A slice of it, but for the test suite; its one URL with a password is documentation."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for name in ("json", "email", "http", "urllib", "asyncio", "logging") for path in sorted((root / name).rglob("*.py"))]
    assert len(files) > 80
    assert [(path.name, span.kind) for path in files for span in secrets(path.read_bytes())] == []
