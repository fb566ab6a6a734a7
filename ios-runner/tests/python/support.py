"""What the tests share: a listener that writes down what it hears, and small requests."""

import asyncio
import contextlib
import ctypes
import hashlib
import shutil
import tempfile
import threading
import time
import unittest
from pathlib import Path

import sora_ios_runner as sora

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = REPOSITORY / "models" / "demo" / "weights"
GOLDEN = REPOSITORY / "models" / "tests" / "golden"

# Longer than anything here takes on a busy machine: a test that hangs fails.
PATIENCE = 240


class Listener(sora.JobListener):
    """Writes down what it hears, in order, and can be waited for."""

    def __init__(self, fail_at=None, hold_at=None, error=None):
        self.heard = []
        self.frames_seen = []
        self.previews = []
        self.summary = None
        self.failure = None
        self.changed = threading.Condition()
        self.fail_at = fail_at
        self.error = error
        self.hold_at = hold_at
        self.released = threading.Event()

    def _hear(self, what, detail=None):
        with self.changed:
            self.heard.append((what, detail))
            self.changed.notify_all()
        if what == self.hold_at:
            self.released.wait(PATIENCE)
        if what == self.fail_at:
            raise self.error or RuntimeError(f"deliberate, at {what}")

    def progress(self, event):
        self._hear(type(event).__name__.rpartition(".")[2].lower(), event)

    def preview(self, steps_done, frame):
        self.previews.append((steps_done, frame))
        self._hear("preview", steps_done)

    def frames(self, frames):
        self.frames_seen.extend(frames)
        self._hear("frames", len(frames))

    def finished(self, summary):
        self.summary = summary
        self._hear("finished", summary)

    def failed(self, failure):
        self.failure = failure
        self._hear("failed", failure)

    def cancelled(self):
        self._hear("cancelled")

    def names(self):
        with self.changed:
            return [what for what, _ in self.heard]

    def wait_for(self, *names):
        """Returns when one of these has been heard."""
        ends = {"finished", "failed", "cancelled"}
        with self.changed:
            self.changed.wait_for(lambda: (set(names) | ends) & {w for w, _ in self.heard}, PATIENCE)
        if not set(names) & set(self.names()):
            raise AssertionError(f"none of {names} came: {self.names()}, {self.failure}")

    def wait_for_end(self):
        self.wait_for("finished", "failed", "cancelled")
        return self.names()[-1]

    def digest(self):
        """A fingerprint of all pixels."""
        return hashlib.sha256(b"".join(frame.rgba() for frame in self.frames_seen)).hexdigest()


def in_place(frame):
    """A frame's pixels, read where they are."""
    return ctypes.string_at(frame.rgba_address(), frame.rgba_length())


def request(prompt="a red ball rolls to the right", **settings):
    """A video that takes a second or two."""
    small = {"steps": 6, "frames": 17}
    return sora.VideoRequest(prompt=prompt, **{**small, **settings})


def threads():
    """Threads of this process, as the system counts them."""
    return len(list(Path("/proc/self/task").iterdir()))


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it does not become true")
        time.sleep(0.01)


class RunnerCase(unittest.TestCase):
    """Tests with a cache folder of their own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="sora-runner-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def config(self, **settings):
        plain = {"cache_folder": str(self.folder / "cache"), "device": sora.ComputeDevice.CPU}
        return sora.RunnerConfig(**{**plain, **settings})

    def open(self, **settings):
        return asyncio.run(sora.SoraRunner.open(self.config(**settings)))

    @contextlib.contextmanager
    def runner(self, **settings):
        """A runner that has ended for good afterwards."""
        runner = self.open(**settings)
        try:
            yield runner
        finally:
            asyncio.run(runner.close())

    def submit(self, runner, request, listener):
        return asyncio.run(runner.submit(request, listener))

    def make(self, runner, request):
        """Makes a video to its end."""
        listener = Listener()
        job = self.submit(runner, request, listener)
        self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
        wait_until(job.is_over)
        return listener
