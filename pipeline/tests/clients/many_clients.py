#!/usr/bin/env python3
"""Many clients at once: every prompt is finished or was refused with 503, none is lost, and memory stays flat.

Prints how long submitting takes while the graph is busy. Needs nothing but Python and the built program.
"""

import argparse
import http.client
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from urllib.parse import urlsplit

from sora_server import SoraServer

# As little work as a video can be, so that a thousand of them take minutes.
TINY = {"size": "16x16", "frames": 5, "steps": 2}


class Client(threading.Thread):
    """Submits its prompts one after the other over one connection."""

    def __init__(self, url, number, prompts, pause):
        super().__init__(daemon=True)
        self.address, self.number, self.prompts, self.pause = urlsplit(url).netloc, number, prompts, pause
        self.rng = random.Random(number)
        self.accepted, self.refused, self.seconds, self.strange = [], 0, [], []

    def run(self):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        for index in range(self.prompts):
            body = {**TINY, "prompt": f"a red circle {self.number} {index}", "seed": self.number * 1000 + index}
            started = time.perf_counter()
            connection.request("POST", "/v1/videos", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            told = json.loads(answer.read())
            self.seconds.append(time.perf_counter() - started)
            if answer.status == 200:
                self.accepted.append(told["id"])
            elif answer.status == 503 and answer.getheader("Retry-After"):
                self.refused += 1
            else:
                self.strange.append((answer.status, told))
            time.sleep(self.rng.uniform(0, 2 * self.pause))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--max-queue", type=int, default=800)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between a client's prompts, on average")
    parser.add_argument("--median-ms", type=float, help="fail when submitting takes longer at the median")
    parser.add_argument("--least-refused", type=int, default=0, help="fail when fewer prompts were refused")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, "data")
        with SoraServer(folder, "--max-queue", str(options.max_queue)) as server:
            # Until the graph is busy, so that no answer is quicker for its idleness.
            for n in range(8):
                server.call("POST", "/v1/videos", {**TINY, "steps": 60, "prompt": "a blue square", "seed": n})
            each = options.prompts // options.clients
            clients = [Client(server.url, n, each, options.pause) for n in range(options.clients)]
            started = time.monotonic()
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            submitted = time.monotonic() - started
            ids = [id for client in clients for id in client.accepted]
            refused = sum(client.refused for client in clients)
            strange = [answer for client in clients for answer in client.strange]
            assert not strange, strange[:3]
            assert len(ids) + refused == each * options.clients
            assert len(set(ids)) == len(ids), "two prompts have one id"
            ms = sorted(1000 * second for client in clients for second in client.seconds)
            median, late = statistics.median(ms), ms[int(len(ms) * 0.99)]
            print(f"{len(ids)} accepted and {refused} refused in {submitted:.1f} s; "
                  f"submit {median:.1f} ms at the median, {late:.1f} ms at 99%, {ms[-1]:.1f} ms at most", flush=True)
            # Looks on from the oldest video that is not over, so that looking costs little.
            sizes, done, after = [], 0, ""
            while True:
                status, page = server.call("GET", f"/v1/videos?limit=100&order=asc{after}")
                assert status == 200, page
                over = list(itertools.takewhile(lambda video: video["status"] in ("completed", "failed"), page["data"]))
                if over:
                    done, after = done + len(over), f"&after={over[-1]['id']}"
                sizes.append((done, server.resident_bytes()))
                if len(over) == len(page["data"]) and not page["has_more"]:
                    break
                if len(over) < 100:
                    time.sleep(0.5)
            videos = server.all_videos()
            by_id = {video["id"]: video for video in videos}
            lost = [id for id in ids if by_id.get(id, {}).get("status") != "completed"]
            assert not lost, f"{len(lost)} prompts were lost: {[by_id.get(id) for id in lost[:3]]}"
            marks = [next(size for done, size in sizes if done >= len(videos) * part / 5) for part in range(1, 6)]
            growth = (marks[-1] - marks[1]) / 2**20
            print(f"all {len(ids)} finished after {time.monotonic() - started:.0f} s; resident MiB at each fifth: "
                  + ", ".join(f"{size / 2**20:.0f}" for size in marks))
            # The first two fill caches and the allocator's reserves.
            assert growth < 16, f"memory grew by {growth:.1f} MiB"
            assert server.stop() == 0
    assert refused >= options.least_refused, f"{refused} prompts were refused, expected {options.least_refused}"
    if options.median_ms is not None:
        assert median < options.median_ms, f"{median:.1f} ms are more than {options.median_ms} ms"
    return 0


if __name__ == "__main__":
    sys.exit(main())
