"""What a phone does to an app in the middle of a video: warns of memory, grows hot, sends it away, kills it."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import sora_ios_runner as sora
from support import Listener, RunnerCase, request, wait_until

STEPS = 40


class Phone(RunnerCase):
    def begun(self, runner, **settings):
        """A video that is in the middle of its steps."""
        listener = Listener()
        job = self.submit(runner, request(steps=STEPS, **settings), listener)
        listener.wait_for("step")
        return job, listener

    def reference(self):
        with self.runner() as runner:
            return self.make(runner, request(steps=STEPS)).digest()

    def test_a_memory_warning_in_mid_run_leaves_the_bytes_as_they_are(self):
        expected = self.reference()
        with self.runner(memory_budget_bytes=1 << 30) as runner:
            plan = asyncio.run(runner.plan(request(steps=STEPS)))
            job, listener = self.begun(runner)
            wait_until(lambda: asyncio.run(runner.status()).memory.spare_bytes > 0 or job.is_over())
            self.assertFalse(job.is_over(), "nothing was kept")
            state = asyncio.run(runner.memory_warning(0))
            # Not less than the video needs, nothing that is only kept.
            self.assertEqual(state.budget_bytes, plan.smallest_bytes)
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            self.assertEqual(listener.digest(), expected)
            wait_until(job.is_over)
            # A warning never raises the budget; only the app does.
            self.assertEqual(asyncio.run(runner.memory_warning(1 << 30)).budget_bytes, plan.smallest_bytes)
            self.assertEqual(asyncio.run(runner.set_memory_budget(1 << 30)).budget_bytes, 1 << 30)

    def test_a_warning_leaves_a_negative_prompt_what_it_needs(self):
        settings = {"negative_prompt": "blurred and dark, " * 20}
        with self.runner(memory_budget_bytes=1 << 30) as runner:
            plan = asyncio.run(runner.plan(request(steps=STEPS, **settings)))
            asyncio.run(runner.pause())
            listener = Listener()
            job = self.submit(runner, request(steps=STEPS, **settings), listener)
            self.assertEqual(asyncio.run(runner.memory_warning(0)).budget_bytes, plan.smallest_bytes)
            runner.resume()
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            wait_until(job.is_over)

    def test_heat_slows_down_and_changes_no_bit(self):
        expected = self.reference()

        def seconds_a_step(listener, steps):
            """The shortest of the next steps, after the one that is under way: what else the machine does makes them longer."""
            seen = listener.names().count("step")
            wait_until(lambda: listener.names().count("step") > seen + steps or listener.summary)
            told = [event.seconds for what, event in listener.heard if what == "step"]
            return min(told[seen + 1 : seen + 1 + steps])

        with self.runner() as runner:
            job, listener = self.begun(runner)
            seconds = {}
            for level in sora.ThermalLevel:
                runner.thermal_state(level)
                seconds[level] = seconds_a_step(listener, 7)
            runner.thermal_state(sora.ThermalLevel.NOMINAL)
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            self.assertEqual(listener.digest(), expected)
            wait_until(job.is_over)
        cool = min(seconds[sora.ThermalLevel.NOMINAL], seconds[sora.ThermalLevel.FAIR])
        # Turns rest once or four times as long as they took; a part of a step passes between turns, where nobody rests.
        self.assertGreater(seconds[sora.ThermalLevel.SERIOUS], 1.3 * cool)
        self.assertGreater(seconds[sora.ThermalLevel.CRITICAL], 1.3 * seconds[sora.ThermalLevel.SERIOUS])

    def test_a_check_of_the_device_waits_in_the_background(self):
        with self.runner() as runner:
            asyncio.run(runner.pause())

            async def checked():
                check = asyncio.ensure_future(runner.benchmark_blocks(False, 1))
                done, _ = await asyncio.wait({check}, timeout=0.5)
                self.assertEqual(done, set(), "the device computed in a pause")
                runner.resume()
                return await check

            self.assertEqual([timing.failure for timing in asyncio.run(checked())], [None] * 3)

    def test_a_pause_stands_still_and_goes_on_with_the_same_bytes(self):
        expected = self.reference()
        with self.runner() as runner:
            job, listener = self.begun(runner)
            asyncio.run(runner.pause())
            self.assertTrue(asyncio.run(runner.status()).paused)
            # What was computed before is told still.
            time.sleep(0.3)
            steps = listener.names().count("step")
            time.sleep(0.3)
            self.assertEqual(listener.names().count("step"), steps, "work went on")
            self.assertFalse(job.is_over())
            runner.resume()
            self.assertFalse(asyncio.run(runner.status()).paused)
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            self.assertEqual(listener.digest(), expected)

    def test_an_app_that_is_killed_goes_on_where_it_was(self):
        expected = self.reference()
        killed = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("killed_app.py"), self.folder / "cache", str(STEPS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        key = killed.stdout.readline().strip()
        self.assertEqual(killed.stdout.readline().strip(), "step")
        # Time for the step to be saved.
        saved = self.folder / "cache" / "jobs" / f"{key}.sora-job"
        wait_until(lambda: saved.exists() and saved.stat().st_size > 0)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        killed.stdout.close()
        with self.runner() as runner:
            [video] = asyncio.run(runner.unfinished())
            self.assertEqual((video.key, video.steps, video.obstacle), (key, STEPS, None))
            self.assertEqual((video.seed, video.frames), (42, 17))
            listener = Listener()
            job = asyncio.run(runner.continue_job(key, listener))
            with self.assertRaises(sora.RunnerError.Busy):
                asyncio.run(runner.continue_job(key, Listener()))
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            self.assertIn("resumed", listener.names())
            self.assertEqual(listener.digest(), expected)
            wait_until(job.is_over)
            self.assertEqual(asyncio.run(runner.unfinished()), [])
            self.assertEqual(os.listdir(self.folder / "cache" / "jobs"), [])

    def test_whoever_taps_twice_gets_one_video(self):
        with self.runner() as runner:
            asyncio.run(runner.pause())
            listener = Listener()
            waiting = self.submit(runner, request(steps=STEPS), listener)
            key = waiting.key()
            del waiting
            gc.collect()
            self.assertEqual(listener.wait_for_end(), "cancelled")

            async def taps():
                heard = [Listener() for _ in range(4)]
                return await asyncio.gather(
                    *(runner.continue_job(key, listener) for listener in heard), return_exceptions=True
                )

            outcomes = asyncio.run(taps())
            jobs = [outcome for outcome in outcomes if isinstance(outcome, sora.SoraJob)]
            self.assertEqual(len(jobs), 1, outcomes)
            self.assertEqual({type(o) for o in outcomes} - {sora.SoraJob}, {sora.RunnerError.Busy})
            runner.resume()

    def test_the_handle_of_an_earlier_run_ends_no_later_one(self):
        with self.runner() as runner:
            bad = Listener(fail_at="step")
            earlier = self.submit(runner, request(steps=STEPS), bad)
            self.assertEqual(bad.wait_for_end(), "failed")
            key = earlier.key()
            listener = Listener()
            later = asyncio.run(runner.continue_job(key, listener))
            self.assertFalse(earlier.cancel())
            del earlier
            gc.collect()
            with self.assertRaises(sora.RunnerError.Busy):
                asyncio.run(runner.continue_job(key, Listener()))
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            wait_until(later.is_over)

    def test_a_video_that_only_waited_can_be_begun_again_or_forgotten(self):
        with self.runner() as runner:
            asyncio.run(runner.pause())
            listeners = [Listener() for _ in (1, 2)]
            jobs = [self.submit(runner, request(seed=seed), l) for seed, l in zip((1, 2), listeners)]
            keys = [job.key() for job in jobs]
            del jobs
            gc.collect()
            self.assertEqual([listener.wait_for_end() for listener in listeners], ["cancelled"] * 2)
            self.assertEqual([video.key for video in asyncio.run(runner.unfinished())], keys)
            asyncio.run(runner.forget(keys[0]))
            runner.resume()
            [video] = asyncio.run(runner.unfinished())
            self.assertEqual((video.key, video.seed, video.steps_done), (keys[1], 2, 0))
            listener = Listener()
            job = asyncio.run(runner.continue_job(keys[1], listener))
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            wait_until(job.is_over)


if __name__ == "__main__":
    unittest.main()
