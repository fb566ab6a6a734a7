"""An app that is killed in the middle of a video: says its job's key and each step. Arguments: cache folder, steps."""

import asyncio
import sys
import time

import sora_ios_runner as sora
from support import Listener, request


class Telling(Listener):
    def progress(self, event):
        super().progress(event)
        print(self.names()[-1], flush=True)
        if self.names()[-1] == "step":
            # Who takes no frames keeps the video from ending before the kill.
            time.sleep(3600)


runner = asyncio.run(sora.SoraRunner.open(sora.RunnerConfig(cache_folder=sys.argv[1], device=sora.ComputeDevice.CPU)))
# So that the key is said before anything happens.
asyncio.run(runner.pause())
listener = Telling()
job = asyncio.run(runner.submit(request(steps=int(sys.argv[2])), listener))
print(job.key(), flush=True)
runner.resume()
listener.wait_for_end()
