"""A video from its prompt to its frames, on the embedded model."""

import asyncio
import gc
import os
import unittest

import sora_ios_runner as sora
from support import Listener, RunnerCase, in_place, request, threads, wait_until


class Videos(RunnerCase):
    def test_a_video_is_made_and_its_frames_are_handed_over(self):
        with self.runner() as runner:
            model = runner.model()
            listener = Listener()
            job = self.submit(runner, request(), listener)
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            wait_until(job.is_over)
            names = listener.names()
            self.assertEqual(names[:3], ["queued", "embedding", "embedded"])
            self.assertEqual(names.count("step"), 6)
            self.assertLess(names.index("decoding"), names.index("frames"))
            self.assertEqual([f.index() for f in listener.frames_seen], list(range(17)))
            for frame in listener.frames_seen:
                self.assertEqual((frame.width_px(), frame.height_px()), (model.width_px, model.height_px))
                pixels = frame.rgba()
                self.assertEqual(len(pixels), 4 * model.width_px * model.height_px)
                self.assertEqual(set(pixels[3::4]), {255})
                self.assertEqual(in_place(frame), pixels)
            self.assertEqual(listener.summary.steps_computed, 6)
            self.assertGreater(listener.summary.seconds, 0)
            self.assertEqual(asyncio.run(runner.unfinished()), [])

    def test_frames_outlive_their_job_and_runner(self):
        with self.runner() as runner:
            frames = self.make(runner, request(frames=1)).frames_seen
        gc.collect()
        self.assertEqual(in_place(frames[0]), frames[0].rgba())

    def test_settings_reach_the_sampler(self):
        with self.runner() as runner:
            leapt = self.make(runner, request(leap=sora.LeapSetting.FIXED(step=2)))
            self.assertEqual((leapt.summary.steps_computed, leapt.summary.leapt_at), (3, 2))
            coasted = self.make(runner, request(evaluations=4))
            self.assertEqual(coasted.summary.steps_computed, 4)
            merging = sora.MergeSetting.FIRST(steps=2)
            merged = self.make(runner, request(merge=merging))
            steps = [event for what, event in merged.heard if what == "step"]
            self.assertEqual([step.merged for step in steps], [True, True, False, False, False, False])
            all_merged = self.make(runner, request(merge=sora.MergeSetting.ALL()))
            steps = [event for what, event in all_merged.heard if what == "step"]
            self.assertTrue(all(step.merged for step in steps))
            off = request(leap=sora.LeapSetting.OFF(), merge=sora.MergeSetting.OFF())
            self.assertEqual(self.make(runner, off).digest(), self.make(runner, request()).digest())
            dynamic = self.make(runner, request(steps=60, leap=sora.LeapSetting.DYNAMIC()))
            self.assertLess(dynamic.summary.steps_computed, 60)
            self.assertIsNotNone(dynamic.summary.leapt_at)
            plain = self.make(runner, request(frames=1)).digest()
            for setting in (
                {"aesthetic_score": 6.5},
                {"motion_score": 4.0},
                {"camera_motion": "pan left"},
                {"negative_prompt": "blue"},
                {"guidance_scale": 2.0},
                {"seed": 43},
            ):
                self.assertNotEqual(self.make(runner, request(frames=1, **setting)).digest(), plain, setting)
            slow = self.make(runner, request(fps=3.0))
            self.assertNotEqual(slow.digest(), self.make(runner, request()).digest())
            small = self.make(runner, request(width_px=32, height_px=24, frames=1, seed=7))
            self.assertEqual(len(small.frames_seen[0].rgba()), 4 * 32 * 24)

    def test_a_preview_shows_the_video_on_its_way(self):
        with self.runner() as runner:
            listener = Listener()
            job = self.submit(runner, request(steps=60), listener)
            while not listener.previews and listener.summary is None:
                job.request_preview()
                listener.changed.acquire()
                listener.changed.wait(0.05)
                listener.changed.release()
            self.assertEqual(listener.wait_for_end(), "finished", listener.failure)
            steps_done, frame = listener.previews[0]
            self.assertTrue(0 < steps_done < 60)
            self.assertEqual(in_place(frame), frame.rgba())
            self.assertEqual(len(listener.frames_seen), 17)

    def test_videos_that_overlap_are_those_that_were_made_alone(self):
        with self.runner() as runner:
            alone = [self.make(runner, request(seed=seed)).digest() for seed in (1, 2, 3)]
            listeners = [Listener() for _ in alone]
            jobs = [self.submit(runner, request(seed=seed), l) for seed, l in zip((1, 2, 3), listeners)]
            self.assertEqual([l.wait_for_end() for l in listeners], ["finished"] * 3)
            self.assertEqual([l.digest() for l in listeners], alone)
            self.assertEqual(len({job.key() for job in jobs}), 3)

    def test_plans_and_descriptions(self):
        self.assertGreater(len(sora.embedded_prompts()), 10)
        self.assertRegex(sora.runner_version(), r"^\d+\.\d+\.\d+$")
        with self.runner(device=sora.ComputeDevice.AUTO, precision=sora.ComputePrecision.F32) as runner:
            # This test runs where there is no GPU.
            self.assertEqual((runner.model().device, runner.model().precision), ("cpu", "f32"))
        with self.runner(memory_budget_bytes=1 << 30, precision=sora.ComputePrecision.BF16) as runner:
            model = runner.model()
            self.assertEqual((model.device, model.precision), ("cpu", "bf16"))
            self.assertEqual(len(model.fingerprint), 64)
            plan = asyncio.run(runner.plan(request()))
            self.assertTrue(plan.fits)
            self.assertEqual(plan.budget_bytes, 1 << 30)
            self.assertLess(plan.smallest_bytes, plan.budget_bytes)
            self.assertGreater(plan.blocks, 0)
            large = asyncio.run(runner.plan(request(width_px=4096, height_px=4096)))
            self.assertFalse(large.fits)

    def test_the_device_checks_itself(self):
        with self.runner() as runner:
            from support import GOLDEN

            cases = asyncio.run(runner.run_golden_cases(str(GOLDEN)))
            failed = [f"{case.name}: {case.reason}" for case in cases if not case.passed]
            self.assertEqual(failed, [])
            self.assertGreater(len(cases), 5)
            timings = asyncio.run(runner.benchmark_blocks(False, 2))
            self.assertEqual([timing.failure for timing in timings], [None] * 3)
            self.assertTrue(all(timing.seconds > 0 for timing in timings))


class Endings(RunnerCase):
    def test_a_job_that_is_cancelled_leaves_nothing(self):
        with self.runner() as runner:
            listener = Listener()
            job = self.submit(runner, request(steps=500), listener)
            listener.wait_for("step")
            self.assertTrue(job.cancel())
            self.assertFalse(job.cancel())
            self.assertEqual(listener.wait_for_end(), "cancelled")
            self.assertEqual(os.listdir(self.folder / "cache" / "jobs"), [])
            self.assertEqual(len(self.make(runner, request()).frames_seen), 17)

    def test_a_job_that_is_dropped_is_cancelled_and_stays_saved(self):
        with self.runner() as runner:
            listener = Listener()
            job = self.submit(runner, request(steps=500), listener)
            listener.wait_for("step")
            key = job.key()
            del job
            gc.collect()
            self.assertEqual(listener.wait_for_end(), "cancelled")
            self.assertEqual([video.key for video in asyncio.run(runner.unfinished())], [key])

    def test_a_listener_that_throws_ends_its_own_job_alone(self):
        with self.runner() as runner:
            for place in ("queued", "step", "frames", "finished"):
                bad, good = Listener(fail_at=place), Listener()
                job = self.submit(runner, request(), bad)
                other = self.submit(runner, request(), good)
                wait_until(lambda: bad.failure)
                self.assertIn(job.key(), [video.key for video in asyncio.run(runner.unfinished())])
                self.assertEqual(bad.failure.kind, sora.FailureKind.LISTENER)
                self.assertIn("deliberate", bad.failure.message)
                self.assertEqual(good.wait_for_end(), "finished", good.failure)
                wait_until(other.is_over)
            # What they had done is there still, also when only the end went wrong.
            self.assertEqual(len(asyncio.run(runner.unfinished())), 4)

    def test_a_listener_that_throws_at_the_end_changes_nothing(self):
        with self.runner() as runner:
            listener = Listener(fail_at="cancelled")
            job = self.submit(runner, request(steps=500), listener)
            listener.wait_for("step")
            job.cancel()
            wait_until(job.is_over)
            self.assertEqual(listener.names().count("failed"), 0)

    def test_a_listener_that_blocks_holds_up_nobody_else(self):
        with self.runner() as runner:
            blocked = Listener(hold_at="frames")
            job = self.submit(runner, request(), blocked)
            blocked.wait_for("frames")
            self.assertFalse(job.is_over())
            other = Listener()
            kept = self.submit(runner, request(), other)
            wait_until(lambda: "step" in other.names())
            self.assertTrue(asyncio.run(runner.status()).accepting)
            blocked.released.set()
            self.assertEqual([blocked.wait_for_end(), other.wait_for_end()], ["finished"] * 2)
            del job, kept

    def test_closing_ends_everything(self):
        runner = self.open()
        listeners = [Listener() for _ in range(3)]
        jobs = [self.submit(runner, request(steps=500), listener) for listener in listeners]
        asyncio.run(runner.close())
        self.assertEqual([listener.wait_for_end() for listener in listeners], ["cancelled"] * 3)
        asyncio.run(runner.close())
        for job in jobs:
            self.assertFalse(job.cancel())
        with self.assertRaises(sora.RunnerError.Closed):
            self.submit(runner, request(), Listener())

    def test_everything_dropped_at_any_moment_ends(self):
        # What a process starts once and then keeps is there after the first video.
        with self.runner() as runner:
            self.make(runner, request())
        before = threads()
        for moment in ("queued", "embedding", "step", "decoding", "frames"):
            runner, listener = self.open(), Listener()
            job = self.submit(runner, request(), listener)
            listener.wait_for(moment)
            del runner, job
            gc.collect()
            self.assertIn(listener.wait_for_end(), ("cancelled", "finished"))
        # Nor does one hang that is dropped while it is paused.
        runner, listener = self.open(), Listener()
        asyncio.run(runner.pause())
        job = self.submit(runner, request(), listener)
        del runner, job
        gc.collect()
        self.assertEqual(listener.wait_for_end(), "cancelled")
        wait_until(lambda: threads() <= before)

    def test_calls_that_nobody_awaits_any_more_end(self):
        async def given_up():
            task = asyncio.ensure_future(sora.SoraRunner.open(self.config()))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task

        asyncio.run(given_up())
        with self.runner() as runner:
            self.assertTrue(asyncio.run(runner.status()).accepting)


if __name__ == "__main__":
    unittest.main()
