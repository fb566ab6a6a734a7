"""Starts and ends `sora serve` as a process of its own, and speaks to it without any client library."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

# A small video, so that a step takes milliseconds.
SMALL = {"size": "32x24", "frames": "17"}


def binary():
    """The program under test: SORA_BINARY, or what `cargo build` left."""
    return os.environ.get("SORA_BINARY", str(ROOT / "target" / "debug" / "sora"))


class SoraServer:
    """One process. `folder` outlives it. Without `wait` it may not listen yet: see `listens`."""

    def __init__(self, folder, *arguments, threads=None, wait=True):
        command = [binary()]
        if threads is not None:
            command += ["--threads", str(threads)]
        command += ["serve", "--json", "--port", "0", "--data", str(folder), "--device", "cpu", *arguments]
        self.log_path = Path(str(folder) + ".log")
        self.url = None
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        if wait and not self.listens():
            raise RuntimeError("the server did not start:\n" + self.log_path.read_text()[-2000:])

    def listens(self):
        """Waits until it listens; `False` when it ended before."""
        line = self.process.stdout.readline()
        if line:
            self.url = json.loads(line)["url"]
        return bool(line)

    def call(self, method, path, body=None, headers=None, timeout=60):
        """Status and JSON of an answer."""
        headers = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    def content(self, video_id, variant="video"):
        """The bytes of a finished video's file."""
        with urllib.request.urlopen(f"{self.url}/v1/videos/{video_id}/content?variant={variant}") as answer:
            return answer.read()

    def all_videos(self):
        """Every video, the oldest first."""
        videos, after = [], ""
        while True:
            status, page = self.call("GET", f"/v1/videos?order=asc&limit=100{after}")
            assert status == 200, page
            videos += page["data"]
            if not page["has_more"]:
                return videos
            after = f"&after={page['last_id']}"

    def resident_bytes(self):
        """Memory of the process."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self):
        """Ends it as a power failure would."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self, timeout=60):
        """Ends it in order; answers its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process.stdout.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
