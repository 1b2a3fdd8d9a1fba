"""``python -m megatron_snow.synthesis.llama_server MODEL --name NAME``: a GGUF model behind an OpenAI-compatible address.

``server.local_server`` starts it. Started by hand with ``--host`` it serves until it is ended: a small stand-in for vLLM where a batch
script is to be tried. Nothing imports this module, as what is imported already cannot be run with ``-m`` without a warning.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from megatron_snow.synthesis.server import READY, gguf_file


def _serve(arguments: argparse.Namespace) -> None:
    """In the child: serve until standard input ends, or where a host is given until the process is ended."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf_file(arguments.model))
    parameters.model_alias = {arguments.name}
    parameters.hostnames, parameters.port = [arguments.host or "127.0.0.1"], arguments.port
    parameters.n_parallel, parameters.n_ctx = arguments.slots, arguments.slots * arguments.context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.n_gpu_layers, parameters.cache_ram_mib, parameters.ui, parameters.verbosity = 0, 0, False, 1
    server = xllamacpp.Server(parameters)
    sys.stdout.buffer.write(READY + server.listening_address.encode() + b"\n")
    sys.stdout.buffer.flush()
    if arguments.host:
        signal.pause()  # SIGTERM ends the process as it ends any
    sys.stdin.buffer.read()
    os._exit(0)  # the server's own shutdown waits for answers that nobody will read


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a GGUF model in the OpenAI format")
    parser.add_argument("model", help="fixture:SmolLM2-135M-Instruct, a GGUF file, or a folder with one")
    parser.add_argument("--name", required=True, help="what requests call the model")
    parser.add_argument("--host", default="", help="address to listen at, such as 0.0.0.0 (default: 127.0.0.1, until standard input ends)")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=1, help="requests answered at one time")
    parser.add_argument("--context", type=int, default=2048, help="tokens of prompt and answer together")
    return parser.parse_args()


if __name__ == "__main__":
    _serve(_arguments())
