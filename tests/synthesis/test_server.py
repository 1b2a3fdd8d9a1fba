"""The local server with the real small model."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis import LocalServerSettings, SynthesizeSettings, synthesize
from megatron_snow.synthesis.client import Patience, connect
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.server import gguf_file, local_server
from megatron_snow.synthesis.settings import EndpointSettings
from megatron_snow.synthesis.syntax import error_in
from megatron_snow.synthesis.wire import Request, Sampling
from tests.synthesis.conftest import DECONTAMINATION

SMALL = "fixture:SmolLM2-135M-Instruct"


def servers_of(parent: int) -> list[int]:
    """Processes of ours, alive, that serve a model for ``parent``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                served = b"megatron_snow.synthesis.llama_server" in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if served and state[0] != "Z" and int(state[1]) == parent:
                found.append(int(entry.name))
    return found


def gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


COPY = """=== user
1: <<seed>>
Write a program.
=== assistant
Problem: Add two given numbers.

```python
def add(left, right):
    return left + right
```
=== user
2: Write the same program again.
=== assistant
Problem: Add two given numbers.

```python
def add(left, right):
    return left + right
```
=== user
3: Write the same program again. (<<seed>>)
"""


def test_real_answers_become_documents(quality, tokenizer, work, tmp_path):
    """A prompt that even this model follows, without chance; it says the same each time, so that all but one are duplicates.

    The example's problem has five words: six and more would be the prompt's own, which no answer may repeat.
    """
    prompt = tmp_path / "copy.txt"
    prompt.write_text(COPY.replace("1: <<seed>>", "1:"))
    settings = SynthesizeSettings(
        local=LocalServerSettings(model=SMALL, slots=2, context=512), prompt=str(prompt), requests=3, max_tokens=60, temperature=0, seed_lines=1,
        python_share=1, min_characters=20,
    )  # fmt: skip
    counts = synthesize(settings, 1, quality, tokenizer, work, DECONTAMINATION)
    rows = list(read_documents(work / "synthetic"))
    assert counts["answers"] == 3 and counts["accepted"] == len(rows) >= 1 and counts["model"] == "SmolLM2-135M-Instruct"
    assert rows[0]["text"].startswith('"""Add two given numbers') and "def add(" in rows[0]["text"] and error_in("Python", rows[0]["text"]) is None
    answers = [json.loads(line) for line in (work / "journal.jsonl").read_text().splitlines()]
    assert len(answers) == 3 and all(0 < one["completion_tokens"] <= 60 < one["prompt_tokens"] for one in answers)
    assert servers_of(os.getpid()) == []


async def go_on(url: str, model: str, text: str) -> Answer:
    """What the model writes after a text, by the client alone."""
    sampling = Sampling(model, 0, 1, 0, 8, ())
    async with connect((EndpointSettings(url=url),), None, sampling, Patience(60, 2, 0.1), 1) as client:
        await client.check()
        return await client.ask(Request("r", [], 1, prompt=text))


def use_and_fail(seen: list[int]) -> None:
    with local_server(LocalServerSettings(model=SMALL, slots=1, context=256)) as (url, name):
        seen += servers_of(os.getpid())
        with urllib.request.urlopen(f"{url}/models") as page:
            assert name == "SmolLM2-135M-Instruct" and name.encode() in page.read()
        answer = asyncio.run(go_on(url, name, "def add(left, right):\n    return"))
        assert answer.content.startswith(" left") and answer.prompt_tokens and answer.completion_tokens == 8
        raise ZeroDivisionError


def test_server_is_there_within_and_gone_after_even_on_an_error():
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        use_and_fail(seen)
    assert len(seen) == 1 and gone(seen)


def test_server_ends_when_its_owner_is_killed():
    program = (
        "import time\nfrom megatron_snow.synthesis import LocalServerSettings\nfrom megatron_snow.synthesis.server import local_server\n"
        f"with local_server(LocalServerSettings(model={SMALL!r}, slots=1, context=256)) as (url, _):\n    print(url, flush=True)\n    time.sleep(300)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None and owner.stdout.readline().startswith("http://127.0.0.1:")
        pids = servers_of(owner.pid)
        assert len(pids) == 1
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
    assert gone(pids)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(SnowError, match=r"local server with .*broken\.gguf"), local_server(LocalServerSettings(model=str(path))):
        pass
    assert servers_of(os.getpid()) == []


def test_which_file(tmp_path):
    (tmp_path / "one.gguf").touch()
    assert gguf_file(str(tmp_path)) == gguf_file(str(tmp_path / "one.gguf")) == tmp_path / "one.gguf"
    (tmp_path / "two.gguf").touch()
    with pytest.raises(SnowError, match="has 2"):
        gguf_file(str(tmp_path))
    with pytest.raises(SnowError, match="does not exist"):
        gguf_file(str(tmp_path / "nothing"))
    with pytest.raises(SnowError, match="unknown fixture"):
        gguf_file("fixture:Nothing")


def test_short_form_of_the_setting():
    assert SynthesizeSettings(local=SMALL, requests=1).local == LocalServerSettings(model=SMALL)
