#!/usr/bin/env python3
"""Drives every address of the served OpenAPI document with what schemathesis makes up: no answer may be a 5xx, and each
must be as the document says. Bad connections come after that. Needs schemathesis."""

import argparse
import os
import random
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from urllib.parse import urlsplit

from sora_server import SoraServer

# Videos of at most so much, since the fuzzer asks for hundreds.
LIMITS = ["--max-steps", "2", "--max-frames", "17", "--max-pixels", "16384", "--max-queue", "100000"]


def schemathesis(server, examples, seed, scratch, video=None):
    """Runs the fuzzer; answers its exit code. With the id of a video, every operation but its deletion is about that."""
    program = os.path.join(sysconfig.get_path("scripts"), "schemathesis")
    config = os.path.join(scratch, "schemathesis.toml")
    with open(config, "w") as file:
        file.write(f'[parameters]\n"path.id" = "{video}"\n' if video else "")
    # Settings may be sound each by itself and not together, a setting may come as text or as a number, and a server
    # without keys ignores them: the three checks that are left out would call that mistakes.
    command = [program, "--config-file", config, "run", server.url + "/openapi.json",
               "--max-examples", str(examples), "--seed", str(seed), "--checks", "all",
               "--exclude-checks", "positive_data_acceptance,negative_data_rejection,ignored_auth",
               "--request-timeout", "60", "--suppress-health-check", "all", "--no-color"]
    if video:
        command += ["--exclude-operation-id", "deleteVideo"]
    return subprocess.run(command, cwd=scratch, check=False).returncode


def broken_requests(server, rng):
    """Bytes that are no HTTP, or not all of it: each gets a 4xx or a closed connection."""
    address = urlsplit(server.url)
    head = (f"POST /v1/videos HTTP/1.1\r\nHost: {address.netloc}\r\n").encode()
    form = b"Content-Type: multipart/form-data; boundary=x\r\n"
    broken = [
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", bytes(range(256)),
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        head + b"Content-Type: application/json\r\nContent-Length: abc\r\n\r\n{}",
        head + b"Content-Type: application/json\r\nContent-Length: -1\r\n\r\n{}",
        head + b"Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{}",
        head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"prompt\":",
        head + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + b"Content-Type: application/json\r\nContent-Length: 4\r\n\r\n\xff\xfe{}",
        head + b"Content-Type: application/json\r\nContent-Length: 30000\r\n\r\n" + b"[" * 30000,
        head + form + b"Content-Length: 8\r\n\r\n--y\r\n\r\n\r\n",
        head + form + b"Content-Length: 60\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n",
        head + form + b"Content-Length: 40\r\n\r\n--x\r\nContent-Disposition: nonsense\r\n\r\n1\r\n--x--",
        head + b"Content-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}",
    ]
    broken += [bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400))) for _ in range(100)]
    for number, request in enumerate(broken):
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while b"\r\n\r\n" not in answer and (part := connection.recv(4096)):
                    answer += part
            except TimeoutError:
                raise
            except OSError:
                # It was closed before all of it was sent, which has several errors; a server that hangs is another matter.
                continue
        status = answer.split(b" ")[1:2]
        assert not answer or status[0].startswith(b"4"), (number, request[:80], answer[:200])
    # Connections that stay half open take nobody's place.
    half_open = [socket.create_connection((address.hostname, address.port)) for _ in range(100)]
    for connection in half_open:
        connection.sendall(head)
    assert server.call("GET", "/healthz")[0] == 200
    for connection in half_open:
        connection.close()
    print(f"{len(broken)} broken requests and {len(half_open)} half-open connections: no 5xx")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="made up for each operation at most")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        with SoraServer(os.path.join(scratch, "data"), *LIMITS) as server:
            code = schemathesis(server, options.examples, options.seed, scratch)
            finished = {"prompt": "a red circle", "size": "16x16", "frames": 5, "steps": 2, "priority": 10}
            status, video = server.call("POST", "/v1/videos", finished)
            assert status == 200, video
            while server.call("GET", f"/v1/videos/{video['id']}")[1]["status"] != "completed":
                time.sleep(0.1)
            code = schemathesis(server, options.examples, options.seed + 1, scratch, video["id"]) or code
            broken_requests(server, random.Random(options.seed))
            # It is alive, and still makes videos.
            assert server.call("GET", "/readyz")[0] == 200
            status, video = server.call("POST", "/v1/videos", {"prompt": "a red circle", "size": "16x16", "frames": 1,
                                                               "steps": 1, "priority": 10})
            assert status == 200, video
            assert server.stop() == 0
        log = open(os.path.join(scratch, "data.log")).read()
        failures = [line for line in log.splitlines() if " status=5" in line or " ERROR " in line or "panicked" in line]
        assert not failures, "\n".join(failures[:10])
    return code


if __name__ == "__main__":
    sys.exit(main())
