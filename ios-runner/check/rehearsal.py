#!/usr/bin/env python3
"""Rehearses a phone's memory: a video of the full-size model under a limit that the kernel enforces, with everything that a phone
does to an app in the middle of it.

    ios-runner/check/python.sh -k nothing          # builds the library and the bindings once
    PYTHONPATH=target/ios-runner/python ios-runner/check/rehearsal.py MODEL_FOLDER [--limit 3300000000]

`sora synth --preset opensora-v1.2` writes a model folder of random weights. The program starts itself anew in a control group with
that limit (version 1 or 2, as root, or whoever may make one); more than that, and the kernel ends it. The same video is then made
twice: once undisturbed, and once with a memory warning down to nothing in the middle of a step, heat, the app in the background and
back, a kill while it denoises and the rest by a new process. Both must have the same bytes.
"""

import argparse
import asyncio
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def enter_group(limit):
    """Puts this process into a control group of its own, and says where the group is, and where this process came from."""
    name = f"sora-rehearsal-{os.getpid()}"
    came_from = present_group()
    if (GROUPS / "memory").is_dir():
        group = GROUPS / "memory" / name
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit))
    else:
        group = GROUPS / name
        group.mkdir()
        (group / "memory.max").write_text(str(limit))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    return group, came_from


def present_group():
    """The control group that this process is in; the root of all where a container does not show it."""
    hierarchy = "memory" if (GROUPS / "memory").is_dir() else ""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        group = GROUPS / hierarchy / path.lstrip("/")
        if hierarchy in controllers.split(",") and (group / "cgroup.procs").exists():
            return group
    return GROUPS / hierarchy


def leave_group(group, came_from):
    """Goes back to where this process came from, and removes the group."""
    (came_from / "cgroup.procs").write_text(str(os.getpid()))
    group.rmdir()


def figures(group):
    """What the kernel says of the group, by either version's names: its peak, how often the limit was hit, and what was killed."""
    found = {}
    for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.failcnt"):
        if (group / name).exists():
            found[name] = int((group / name).read_text())
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            counts = dict(line.split() for line in (group / name).read_text().splitlines())
            found[name] = {what: int(counts[what]) for what in ("max", "oom_kill") if what in counts}
    return found


def say(what, **details):
    # The runner's threads speak, too, and `print` does not write a line in one piece.
    with SPEAKING:
        print(json.dumps({"seconds": round(time.monotonic() - START, 1), "event": what, **details}), flush=True)


START = time.monotonic()
SPEAKING = threading.Lock()


def actor(arguments):
    """Makes the video, or goes on with it, in this process."""
    import sora_ios_runner as sora

    class Listener(sora.JobListener):
        def __init__(self):
            self.digest = hashlib.sha256()
            self.frames_seen = 0
            self.steps = 0
            self.moment = threading.Condition()
            self.last = None
            self.embedding = False
            self.job = None

        def _mark(self, **changes):
            with self.moment:
                vars(self).update(changes)
                self.moment.notify_all()

        def progress(self, event):
            name = type(event).__name__.rpartition(".")[2].lower()
            say(name)
            if name == "step":
                self.job.request_preview()
                self._mark(steps=self.steps + 1)
            elif name == "embedding":
                self._mark(embedding=True)

        def preview(self, steps_done, frame):
            say("preview", steps_done=steps_done)

        def frames(self, frames):
            for frame in frames:
                self.digest.update(frame.rgba())
            self.frames_seen += len(frames)

        def finished(self, summary):
            say("finished", took=round(summary.seconds, 1))
            self._mark(last="finished")

        def failed(self, failure):
            say("failed", kind=str(failure.kind), message=failure.message)
            self._mark(last="failed")

        def cancelled(self):
            self._mark(last="cancelled")

        def wait(self, condition):
            with self.moment:
                self.moment.wait_for(lambda: condition() or self.last)

        def check_goes_on(self, before):
            """A job that is over before it is disturbed was not disturbed."""
            if self.last is not None:
                sys.exit(f"rehearsal: the video had {self.last} before {before}")

    def memory(state):
        return {name: getattr(state, name) for name in ("budget_bytes", "used_bytes", "peak_bytes", "spare_bytes")}

    config = sora.RunnerConfig(
        model_folder=arguments.model,
        device=sora.ComputeDevice.CPU,
        precision=sora.ComputePrecision.F32,
        memory_budget_bytes=arguments.budget,
        cache_folder=arguments.cache,
    )
    runner = asyncio.run(sora.SoraRunner.open(config))
    request = sora.VideoRequest(
        prompt="a lighthouse in a storm",
        steps=arguments.steps,
        width_px=arguments.side,
        height_px=arguments.side,
        frames=arguments.frames,
    )
    plan = asyncio.run(runner.plan(request))
    say("plan", smallest_bytes=plan.smallest_bytes, budget_bytes=plan.budget_bytes, retained_blocks=plan.retained_blocks)
    def warn(moment):
        listener.check_goes_on(f"the warning {moment}")
        state = asyncio.run(runner.memory_warning(0))
        say("warning", moment=moment, **memory(state))
        if state.budget_bytes != plan.smallest_bytes:
            sys.exit(f"rehearsal: the budget is {state.budget_bytes}, and not {plan.smallest_bytes}")

    listener = Listener()
    if arguments.resume:
        [video] = asyncio.run(runner.unfinished())
        say("unfinished", steps_done=video.steps_done, steps=video.steps, obstacle=video.obstacle)
        job = asyncio.run(runner.continue_job(video.key, listener))
    else:
        job = asyncio.run(runner.submit(request, listener))
    listener.job = job
    job.request_preview()
    if arguments.disturb:
        listener.wait(lambda: listener.embedding)
        time.sleep(arguments.pause)
        # It holds the most.
        warn("in the text encoder's sweep")
        listener.wait(lambda: listener.steps >= 1)
        listener.check_goes_on("heat")
        asyncio.run(runner.set_memory_budget(arguments.budget))
        runner.thermal_state(sora.ThermalLevel.SERIOUS)
        say("serious")
        time.sleep(arguments.pause)
        warn("in a step")
        listener.check_goes_on("the background")
        asyncio.run(runner.pause())
        say("background", resident_bytes=resident())
        time.sleep(arguments.pause)
        runner.resume()
        runner.thermal_state(sora.ThermalLevel.NOMINAL)
        say("foreground")
        listener.wait(lambda: listener.steps >= 2)
        listener.check_goes_on("the kill")
        say("kill", previews=previews(runner))
        os.kill(os.getpid(), signal.SIGKILL)
    listener.wait(lambda: False)
    status = asyncio.run(runner.status())
    say(
        "end",
        last=listener.last,
        frames=listener.frames_seen,
        previews=previews(runner),
        sha256=listener.digest.hexdigest(),
        most_resident_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **memory(status.memory),
    )
    asyncio.run(runner.close())
    # The job's thread lets go of its listener at last, and must not find a Python that is ending.
    while not job.is_over():
        time.sleep(0.01)
    return 0 if listener.last == "finished" else 1


def previews(runner):
    """How many previews came to what."""
    lines = [line for line in runner.metrics_text().splitlines() if line.startswith("sora_previews_total")]
    return {line.split('"')[1]: int(float(line.rsplit(" ", 1)[1])) for line in lines}


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def director(arguments):
    """Makes both videos in processes of their own, and compares them."""
    group, came_from = enter_group(arguments.limit)
    try:
        first, second = both(arguments)
        print("kernel:", json.dumps(figures(group)))
    finally:
        leave_group(group, came_from)
    if first["sha256"] != second["sha256"] or first["frames"] != second["frames"]:
        sys.exit(f"rehearsal: the videos differ: {first} {second}")
    print(f"rehearsal: ok, the same {first['frames']} frames both times, under {arguments.limit / 1e9:.1f} GB")


def both(arguments):
    """The last lines of the video that was left alone, and of the one that was not."""
    ends = []
    with tempfile.TemporaryDirectory(prefix="sora-rehearsal-") as cache:
        for name, flags, kill in (
            ("undisturbed", [], False),
            ("disturbed", ["--disturb"], True),
            ("the rest of it", ["--resume"], False),
        ):
            print(f"== {name}", flush=True)
            command = [sys.executable, __file__, arguments.model, "--act", "--cache", cache, *flags]
            for setting in ("budget", "steps", "side", "frames", "pause"):
                command += [f"--{setting}", str(getattr(arguments, setting))]
            last = {}
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                for line in process.stdout:
                    print(line, end="", flush=True)
                    last = json.loads(line)
            if kill:
                # By itself, that is: a kill by the kernel would not have been told before.
                if process.returncode != -signal.SIGKILL or last.get("event") != "kill":
                    sys.exit(f"rehearsal: {name}: ended with {process.returncode} after {last}")
            elif process.returncode or last.get("event") != "end":
                sys.exit(f"rehearsal: {name}: ended with {process.returncode} after {last}")
            else:
                ends.append(last)
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=3_300_000_000, help="bytes that the kernel allows")
    parser.add_argument("--budget", type=int, help="bytes that the runner is told [default: 200 MB less than the limit]")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--side", type=int, default=192, help="pixels")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between a moment and what disturbs it")
    parser.add_argument("--act", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--disturb", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.budget = arguments.budget or arguments.limit - 200_000_000
    sys.exit(actor(arguments) if arguments.act else director(arguments))


if __name__ == "__main__":
    main()
