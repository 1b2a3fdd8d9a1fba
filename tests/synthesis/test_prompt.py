"""Prompt files."""

import hashlib
import json

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis import SynthesizeSettings, synthesize
from megatron_snow.synthesis.prompt import load_prompt, packaged
from megatron_snow.synthesis.syntax import LANGUAGES
from tests.synthesis.conftest import DECONTAMINATION, settings


@pytest.mark.parametrize("name", packaged())
def test_every_packaged_prompt_takes_every_language(name):
    prompt = load_prompt(name)
    for language, entry in LANGUAGES.items():
        messages = prompt.messages(language, "SEED <<language>> {braces}")
        assert messages[-1]["role"] == "user" and "SEED <<language>> {braces}" in messages[-1]["content"]
        assert entry.spoken in messages[-1]["content"]
        assert all("<<" not in message["content"].replace("SEED <<language>>", "") for message in messages)


def test_there_is_one_for_large_and_one_for_small_models():
    assert packaged() == ["algorithm", "file", "file_small", "library", "program"]


def test_only_the_last_turn_depends_on_the_seed():
    one, other = (load_prompt("file_small").messages("C", text) for text in ("a", "b"))
    assert one[:-1] == other[:-1] and one[-1] != other[-1]
    assert [message["role"] for message in one] == ["user", "assistant", "user", "assistant", "user"]


def test_a_prompt_of_the_users_own(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("=== system\nBe short.\n\n=== user\nWrite <<fence>> like\n<<seed>>\n")
    prompt = load_prompt(str(path))
    assert prompt.messages("C++", "x") == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Write cpp like\nx"}]
    assert prompt.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"Write like <<seed>>", "must start with"), (b"", "must start with"), (b"=== user\n<<seed>>\n=== assistant\nyes", "last turn"),
        (b"=== user\nno place", "no <<seed>>"), (b"=== user\n<<seed>> <<langauge>>", "<<langauge>>"), (b"=== user\n\xff<<seed>>", "not UTF-8"),
        (b"=== system\n<<seed>>\n=== user\nhi", "no <<seed>>"),
    ],
)  # fmt: skip
def test_broken_prompts(tmp_path, content, complaint):
    path = tmp_path / "broken.txt"
    path.write_bytes(content)
    with pytest.raises(SnowError, match=complaint):
        load_prompt(str(path))


def test_unknown_prompt_names_what_there_is():
    with pytest.raises(SnowError, match=r"no prompt 'fiel'.*file, file_small"):
        load_prompt("fiel")


def test_a_prompt_that_changed_is_another_arrow(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("=== user\n<<seed>>\n")
    settings = SynthesizeSettings(prompt=str(path))
    before = settings.identity()
    assert before == SynthesizeSettings(prompt=str(path), concurrency=7, endpoints=["http://elsewhere/v1"]).identity()
    path.write_text("=== user\nWrite like <<seed>>\n")
    assert settings.identity() != before
    path.unlink()
    with pytest.raises(SnowError, match="no prompt"):
        settings.identity()


def test_several_prompts_share_the_seeds_by_their_hash(serve, quality, tokenizer, work):
    endpoint = serve()
    synthesize(settings(endpoint, requests=60, prompt=["file", "library", "program"]), 1, quality, tokenizer, work, DECONTAMINATION)
    summary = json.loads((work / "summary.json").read_text())
    assert sum(style["asked"] for style in summary["styles"].values()) == 60 and all(10 <= style["asked"] <= 30 for style in summary["styles"].values())
    assert len({body["messages"][0]["content"] for body in endpoint.asked}) == 3
    assert summary["prompt"]["name"] == "file, library, program" and len(set(summary["prompt"]["sha256"].split(", "))) == 3
    with pytest.raises(ValueError, match="several different ones"):
        settings(endpoint, prompt=["file", "file"])
    alone = settings(endpoint, prompt="file").identity()["prompt_sha256"]
    assert len(alone) == 1 and settings(endpoint, prompt=["file", "library"]).identity()["prompt_sha256"][:1] == alone
