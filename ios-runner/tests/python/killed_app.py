"""An app that is killed in the middle of a video: says its job's key and its first step. Arguments: cache folder, steps."""

import asyncio
import sys

import sora_ios_runner as sora
from support import Listener, request

runner = asyncio.run(sora.SoraRunner.open(sora.RunnerConfig(cache_folder=sys.argv[1], device=sora.ComputeDevice.CPU)))
# Who hears no more takes no frames either, so the video cannot end before the kill.
listener = Listener(hold_at="step")
job = asyncio.run(runner.submit(request(steps=int(sys.argv[2])), listener))
print(job.key(), flush=True)
listener.wait_for("step")
print("step", flush=True)
listener.wait_for_end()
