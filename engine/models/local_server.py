"""The child process that runs llama.cpp's OpenAI-compatible server; started by `local_llm`, never imported.

Law of this file: it lives as long as its standard input. When the parent closes it, or dies, the
read ends and so does this process; no orphan keeps two cores busy. The first line on standard
input is its set-up as JSON (so the API key is in no process list), its only line on standard
output is where it listens.
"""

from __future__ import annotations

import json
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Read the set-up, serve until standard input ends."""
    setup = json.loads(sys.stdin.buffer.readline())
    if hasattr(os, "nice"):
        os.nice(int(setup["nice"]))
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = setup["model"]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # the system chooses a free one; no race with other programs
    parameters.n_parallel = int(setup["slots"])
    parameters.n_ctx = int(setup["slot_tokens"]) * int(setup["slots"])
    parameters.cpuparams.n_threads = int(setup["threads"])
    parameters.n_threads_http = int(setup["slots"]) + 4
    parameters.api_keys = [setup["api_key"]]
    parameters.model_alias = {setup["alias"]}
    parameters.kv_unified = False
    parameters.endpoint_slots = True
    parameters.use_jinja = True
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.verbosity = 1
    server = xllamacpp.Server(parameters)
    sys.stdout.write(json.dumps({"url": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # the server's threads would be waited for; the parent wants the slot back now


if __name__ == "__main__":
    main()
