"""A small high-quality tier, and an endpoint that answers well or misbehaves as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from megatron_snow.artifacts.documents import Document, write_documents
from megatron_snow.corpus.settings import DecontaminationSettings
from megatron_snow.synthesis import SynthesizeSettings
from megatron_snow.tokens import train_tokenizer
from megatron_snow.tokens.settings import TokenizerSettings, TokenizerTraining

MODEL = "teacher"
DECONTAMINATION = DecontaminationSettings()
SAMPLES = {  # every line is another one in every document, so that no two seeds are equal
    "Python": "def area_{i}(width, height):\n    if width_{i} < 0:\n        raise ValueError('width {i}')\n    return width * height * {i}\n",
    "C": "#define SCALE_{i} ((double) {i})\nint area_{i}(int width, int height) {{\n    return width * height * {i};\n}} /* end of area_{i}, a function */\n",
    "Java": "class Area{i}Rectangle {{\n    int of{i}(int width, int height) {{\n        return width * height * {i};\n    }} // end of{i}, a method\n}}\n",
}


def document(i: int, language: str = "Python", score: float = 0.5, text: str | None = None) -> Document:
    """One row of a tier."""
    return Document(
        id=f"test/repository/{language}-{i}", text=SAMPLES[language].format(i=i) if text is None else text, language=language, repository="repository",
        path=f"{language}-{i}", license="MIT", source="test", score=score,
    )  # fmt: skip


@pytest.fixture
def quality(tmp_path: Path) -> Path:
    """A folder as annotate writes it: 40 Python, 20 C, 20 Java documents."""
    rows = [document(i, language, score=1 - i / 100) for language, count in (("Python", 40), ("C", 20), ("Java", 20)) for i in range(count)]
    write_documents(tmp_path / "quality" / "high_quality", rows)
    return tmp_path / "quality"


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer arrow's folder, learned from the samples."""
    corpus, work = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("tokenizer")
    write_documents(corpus / "standard", [document(i, language) for language in sorted(SAMPLES) for i in range(20)])
    train_tokenizer(TokenizerSettings(train=TokenizerTraining(vocabulary=300, sample=100_000)), corpus, work)
    return work


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def good_answer(body: dict[str, Any]) -> str:
    """A document in the prompt's language that is another one for each seed."""
    question = body["messages"][-1]["content"]
    fence, number = question.split("```", 1)[1].split("\n", 1)[0], abs(hash(question))
    language = {"python": "Python", "c": "C", "java": "Java"}[fence]
    return f"Problem: compute the area of a rectangle, scaled by {number}.\n\n```{fence}\n{SAMPLES[language].format(i=number)}```\n"


def settings(*endpoints: Endpoint, **changes: Any) -> SynthesizeSettings:
    """Quick ones for these endpoints."""
    chosen = {
        "endpoints": [endpoint.url for endpoint in endpoints],
        "model": MODEL,
        "requests": 20,
        "concurrency": 4,
        "first_wait": 0.01,
        "attempts": 4,
        "timeout": 5,
    }
    return SynthesizeSettings(**{name: value for name, value in (chosen | changes).items() if value is not None})


def questions(endpoint: Endpoint) -> list[str]:
    """What it was asked, in order."""
    return [body["messages"][-1]["content"] for body in endpoint.asked]


def completion(content: str, **changes: Any) -> bytes:
    """The JSON of a chat completion."""
    reply: dict[str, Any] = {
        "id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "usage": {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60},
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
    }  # fmt: skip
    return json.dumps(reply | changes).encode()


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that goes away, killed or content, is no news."""


class Endpoint:
    """A real HTTP server. ``behave(handler, body, turn)`` answers one chat request, ``turn`` counting from 0."""

    def __init__(self, behave: Callable[[Handler, dict[str, Any], int], None], port: int = 0) -> None:
        self.behave, self.asked = behave, []
        self.models: bytes | None = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "t"}]}).encode()
        self.busy = self.most_busy = 0
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self._http = Server(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self._http.request_queue_size = 256
        self._http.endpoint = self  # type: ignore[attr-defined]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        endpoint: Endpoint = self.server.endpoint  # type: ignore[attr-defined]
        if endpoint.models is None:
            self.reply(404, b'{"error": {"message": "no such page"}}')
        else:
            self.reply(200, endpoint.models)

    def do_POST(self) -> None:
        endpoint: Endpoint = self.server.endpoint  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with endpoint.lock:
            turn = len(endpoint.asked)
            endpoint.asked.append(body)
            endpoint.headers.append(dict(self.headers))
            endpoint.busy += 1
            endpoint.most_busy = max(endpoint.most_busy, endpoint.busy)
        try:
            endpoint.behave(self, body, turn)
        finally:
            with endpoint.lock:
                endpoint.busy -= 1

    def reply(self, status: int, data: bytes, headers: dict[str, str] | None = None, promised: int | None = None) -> None:
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data) if promised is None else promised))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def answer_well(handler: Handler, body: dict[str, Any], turn: int) -> None:
    handler.reply(200, completion(good_answer(body)))


def answer_slowly(handler: Handler, body: dict[str, Any], turn: int) -> None:
    time.sleep(0.2)
    answer_well(handler, body, turn)


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    """``serve(behave)`` -> a running endpoint, stopped after the test."""
    running: list[Endpoint] = []

    def start(behave: Callable[[Handler, dict[str, Any], int], None] = answer_well, port: int = 0) -> Endpoint:
        running.append(Endpoint(behave, port))
        return running[-1]

    yield start
    for endpoint in running:
        endpoint.close()
