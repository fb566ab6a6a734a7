#!/usr/bin/env python3
"""Kills the server with SIGKILL at random moments, again and again, and checks that no prompt is lost.

Every prompt that was accepted must end in exactly one finished video whose bytes are those of a run that nobody
disturbed. Needs nothing but Python and the built program.
"""

import argparse
import hashlib
import http.client
import os
import random
import sys
import tempfile
import threading
import time
import uuid

from sora_server import SMALL, SoraServer

# Few, so that the undisturbed run is short; each is asked for many times.
PROMPTS = [
    {"prompt": "a red circle moving left to right", "seed": 1, "steps": 30},
    {"prompt": "a blue square growing", "seed": 2, "steps": 40, "lpl": "fixed:25"},
    {"prompt": "a green triangle rising over a white background", "seed": 3, "steps": 30, "coast": "12"},
    {"prompt": "a yellow ball", "seed": 4, "steps": 20, "tdtm": "10", "frames": "34", "size": "48x32"},
]


def settings(index):
    return {**SMALL, **PROMPTS[index]}


def wait_for_all(server, ids, seconds):
    """Waits until every video is over; answers them by id."""
    end = time.monotonic() + seconds
    while True:
        videos = {video["id"]: video for video in server.all_videos()}
        waiting = [id for id in ids if videos[id]["status"] in ("queued", "in_progress")]
        if not waiting:
            return videos
        assert time.monotonic() < end, f"{len(waiting)} videos are not over after {seconds} s"
        time.sleep(0.2)


def undisturbed(folder):
    """The bytes' SHA-256 for each prompt, from a server that is left alone."""
    with SoraServer(folder) as server:
        ids = [server.call("POST", "/v1/videos", settings(n))[1]["id"] for n in range(len(PROMPTS))]
        wait_for_all(server, ids, 600)
        sums = [hashlib.sha256(server.content(id)).hexdigest() for id in ids]
        assert server.stop() == 0
    return sums


class Client(threading.Thread):
    """Submits prompts until it is told to stop; what gets no answer stays to be asked again with the same key."""

    def __init__(self, server, rng, unanswered, accepted, most):
        super().__init__(daemon=True)
        self.server, self.rng, self.unanswered, self.accepted, self.most = server, rng, unanswered, accepted, most
        self.stopping, self.trouble = False, None

    def run(self):
        try:
            if self.server.listens():
                self.submit()
            elif not self.stopping:
                self.trouble = "the server did not start"
        except (OSError, http.client.HTTPException) as trouble:
            # A server that was killed before it answered: nobody knows whether it took the prompt.
            if not self.stopping:
                self.trouble = trouble
        except Exception as trouble:
            self.trouble = trouble

    def submit(self):
        while not self.stopping and self.most > 0:
            if not self.unanswered:
                self.unanswered.append((str(uuid.uuid4()), self.rng.randrange(len(PROMPTS))))
            key, index = self.unanswered[0]
            status, video = self.server.call(
                "POST", "/v1/videos", settings(index), {"Idempotency-Key": key}, timeout=10
            )
            assert status == 200, video
            self.accepted[video["id"]] = index
            self.unanswered.pop(0)
            self.most -= 1
            time.sleep(self.rng.uniform(0.0, 0.15))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--longest", type=float, default=2.5, help="seconds that a process lives at most")
    parser.add_argument("--a-cycle", type=int, default=4, help="prompts submitted in a cycle at most")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print(f"{options.cycles} cycles, --seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        expected = undisturbed(os.path.join(scratch, "undisturbed"))
        folder = os.path.join(scratch, "killed")
        accepted, unanswered = {}, []
        for cycle in range(options.cycles):
            # It may be killed before it listens, and while it opens what the last one left.
            server = SoraServer(folder, wait=False)
            client = Client(server, rng, unanswered, accepted, options.a_cycle)
            client.start()
            time.sleep(rng.uniform(0.0, options.longest))
            client.stopping = True
            server.process.kill()
            client.join()
            server.kill()
            assert client.trouble is None, repr(client.trouble)
            if (cycle + 1) % 10 == 0:
                print(f"{cycle + 1} kills, {len(accepted)} prompts accepted", flush=True)
        with SoraServer(folder) as server:
            # What was asked without an answer is asked once more: it may have been accepted before.
            for key, index in unanswered:
                status, video = server.call("POST", "/v1/videos", settings(index), {"Idempotency-Key": key})
                assert status == 200, video
                accepted[video["id"]] = index
            videos = wait_for_all(server, accepted, 1800)
            strange = set(videos) - set(accepted)
            assert not strange, f"videos that nobody asked for: {strange}"
            failed = [video for video in videos.values() if video["status"] != "completed"]
            assert not failed, f"videos that failed: {failed}"
            for id, index in accepted.items():
                found = hashlib.sha256(server.content(id)).hexdigest()
                assert found == videos[id]["sha256"], f"{id}: the file is not what the record says"
                assert found == expected[index], f"{id}: other bytes than an undisturbed run"
            assert server.stop() == 0
        files = os.listdir(os.path.join(folder, "videos"))
        # A video, its settings, a thumbnail and a sprite sheet; no saved work and no half-written file.
        assert len(files) == 4 * len(accepted), sorted(files)
        log = open(folder + ".log").read()
        resumed = log.count("going on with what an earlier process began")
        assert " ERROR " not in log, log[-4000:]
    print(f"{options.cycles} kills, {len(accepted)} prompts accepted, each one video with the expected bytes; "
          f"{resumed} servers went on with unfinished work")
    return 0


if __name__ == "__main__":
    sys.exit(main())
