"""Personal data: what is found, and beside it what looks alike and is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from megatron_snow.corpus.personal import email_addresses, ip_addresses, user_names
from megatron_snow.corpus.spans import Span


def found(detect: Callable[[bytes], Iterator[Span]], text: str) -> list[str]:
    content = text.encode()
    return [content[span.start : span.end].decode() for span in sorted(detect(content))]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("# Jane Roe <jane.roe@some-host.co.uk>, maintainer", ["jane.roe@some-host.co.uk"]),
        ("é: j@uni.edu.", ["j@uni.edu"]),
        ("mail('a_b+c@firm.io', 'x@firm.com')", ["a_b+c@firm.io", "x@firm.com"]),
        ("mailto:me@host.org?subject=hi", ["me@host.org"]),
        ("git clone git@host.com:owner/name.git", []),
        ("someone@example.com, a@mail.example.org, b@c.test, d@e.invalid, f@localhost.localdomain", []),
        ("noreply@firm.com 1234+jane@users.noreply.github.com", []),
        ("y = x@self.weight + a @ b.T + (w@v.to(device))", []),
        ("@app.route('/')\n@dataclass(frozen=True)", []),
        ("icon@2x.png vue@3.2.1 @types/node@18.0.0", []),
        ("a@@b.com @b.com", []),
        ("x" * 70 + "@host.com", []),  # no local part is that long
    ],
)
def test_email_addresses(text: str, addresses: list[str]) -> None:
    assert found(email_addresses, text) == addresses


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("host = '93.184.216.34'", ["93.184.216.34"]),
        ("http://93.184.216.34:8080/", ["93.184.216.34"]),
        ("a 172.15.255.255 b", ["172.15.255.255"]),
        ("172.16.0.1 10.1.2.200 192.168.1.1 127.0.0.1 0.0.0.0 169.254.1.1 100.64.0.1 255.255.255.255", []),  # private, loopback, link-local, shared
        ("192.0.2.77 198.51.100.200 203.0.113.9 224.0.0.251 240.1.2.3", []),  # documentation, multicast, reserved
        ("31.31.31.31", []),
        ("31.31.31.32", ["31.31.31.32"]),  # the other side: one number is no version's any more
        ("version 93.184.216.34, v93.184.216.34, foo>=93.184.216.34", []),
        ('<h4 class="title">43.6.4.5. <code>LOOP</code></h4>', []),  # numbers of headings
        ('<h4 class="title">43.6.4.5.\u00a0Loops</h4> <a>43.7.1.1.&nbsp;Cursors</a>', []),
        ("<td>93.184.216.34</td><td>at 93.184.216.34. Then</td>", ["93.184.216.34", "93.184.216.34"]),
        ("93.184.216.34.5 1.93.184.216.34 256.184.216.34 93.184.216.034 93.184.216.0/24", []),
        ("2606:2800:220:1:248:1893:25c8:1946", ["2606:2800:220:1:248:1893:25c8:1946"]),
        ("dns = [2a00:1450:4001:81b::200e]", ["2a00:1450:4001:81b::200e"]),
        ("2001:db8::1 fe80::1 ::1 fd00::12 ff02::1 2001:db8:85a3::8a2e:370:7334", []),
        ("2024:10:11 ab:cd:ef:01:23:45 std::add 2abc::method", []),
    ],
)
def test_ip_addresses(text: str, addresses: list[str]) -> None:
    assert found(ip_addresses, text) == addresses


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("data = open('/home/jroe/work/data.csv')", ["jroe"]),
        ("/Users/jane.roe/src C:\\Users\\JRoe\\x 'C:\\\\Users\\\\jroe2\\\\y'", ["jane.roe", "JRoe", "jroe2"]),
        ("/home/user/x /home/runner/work/ /Users/Shared/x ~/x /home/ /home/$USER/x", []),
        ("https://firm.com/home/about/us and a/home/b/c", []),
        ("/home/jroe", []),  # no path below: as likely a page
        ("// TODO(jroe): mend it\n# FIXME(@kr): too", ["jroe", "kr"]),
        ("TODO: mend (later) TODO(#123) TODO(b/4711)", []),
        ("cc @jroe; thanks to @kroe, reported by @someuser1", ["jroe", "kroe", "someuser1"]),
        ("wrapped by @staticmethod, see @param x, by @dataclass(frozen=True)", []),
        (" * @author Jane Roe <jane@x>\n# @author: K. Roe\n", ["Jane Roe", "K. Roe"]),
        ("the author of this is a tool", []),
    ],
)
def test_user_names(text: str, names: list[str]) -> None:
    assert found(user_names, text) == names
