"""Every error that a call can raise, each with a text that says what to do."""

import asyncio
import shutil
import unittest
from pathlib import Path

import sora_ios_runner as sora
from support import MODEL, Listener, RunnerCase, request, wait_until

Error = sora.RunnerError


class Errors(RunnerCase):
    def test_every_error_is_told_here(self):
        told = {
            name.removeprefix("test_").title().replace("_", "")
            for name in dir(self)
            if name.startswith("test_") and name != "test_every_error_is_told_here"
        }
        kinds = {name for name, kind in vars(Error).items() if isinstance(kind, type)}
        self.assertEqual(kinds - told, set())

    def refused(self, kind, call, *words):
        with self.assertRaises(kind) as caught:
            asyncio.run(call) if asyncio.iscoroutine(call) else call()
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_bad_input(self):
        with self.runner() as runner:
            bad = [request(""), request("<b></b>"), request(steps=0), request(width_px=1), request(guidance_scale=float("nan"))]
            for wrong in bad:
                self.refused(Error.BadInput, runner.submit(wrong, Listener()))
                self.refused(Error.BadInput, runner.plan(wrong))
            self.assertEqual(asyncio.run(runner.unfinished()), [])
        self.refused(Error.BadInput, sora.SoraRunner.open(self.config(queue_capacity=0)), "queue_capacity")

    def test_bad_model(self):
        missing = self.config(model_folder=str(self.folder / "missing"))
        self.refused(Error.BadModel, sora.SoraRunner.open(missing), "missing", "t5")
        cut = self.folder / "cut"
        shutil.copytree(MODEL, cut)
        weights = cut / "stdit3" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        self.refused(Error.BadModel, sora.SoraRunner.open(self.config(model_folder=str(cut))), "stdit3")
        with self.runner() as runner:
            self.refused(Error.BadModel, runner.run_golden_cases(str(self.folder)), "case.json")

    def test_device(self):
        # This test runs where there is no Apple GPU.
        metal = self.config(device=sora.ComputeDevice.METAL)
        self.refused(Error.Device, sora.SoraRunner.open(metal), "metal")

    def test_over_budget(self):
        self.refused(Error.OverBudget, sora.SoraRunner.open(self.config(memory_budget_bytes=1)), "budget")
        with self.runner(memory_budget_bytes=1 << 28) as runner:
            large = request(width_px=4096, height_px=4096)
            self.refused(Error.OverBudget, runner.submit(large, Listener()), "smaller")
            self.refused(Error.OverBudget, runner.benchmark_blocks(True, 1), "in use")
            self.assertEqual(asyncio.run(runner.unfinished()), [])

    def test_queue_full(self):
        with self.runner(queue_capacity=1) as runner:
            asyncio.run(runner.pause())
            jobs = []
            with self.assertRaises(Error.QueueFull) as caught:
                # Some are taken out of the queue before the stages stand still.
                for _ in range(20):
                    jobs.append(self.submit(runner, request(), Listener()))
            self.assertIn("try again", str(caught.exception))
            self.assertGreater(len(jobs), 0)

    def test_closed(self):
        runner = self.open()
        asyncio.run(runner.close())
        self.refused(Error.Closed, runner.submit(request(), Listener()), "open another")
        self.refused(Error.Closed, runner.memory_warning(1))
        self.refused(Error.Closed, runner.set_memory_budget(1))
        self.refused(Error.Closed, runner.status())
        self.refused(Error.Closed, runner.plan(request()))
        # What needs no graph goes on.
        self.assertIn("sora_", runner.metrics_text())
        self.assertEqual(asyncio.run(runner.unfinished()), [])
        runner.thermal_state(sora.ThermalLevel.CRITICAL)
        asyncio.run(runner.pause())
        runner.resume()

    def test_not_found(self):
        with self.runner() as runner:
            for key in ("0000000000000-0", "../../etc/passwd", ""):
                self.refused(Error.NotFound, runner.continue_job(key, Listener()), key)
                self.refused(Error.NotFound, runner.forget(key))

    def test_busy(self):
        with self.runner() as runner:
            listener = Listener()
            job = self.submit(runner, request(steps=500), listener)
            self.refused(Error.Busy, runner.forget(job.key()))
            self.refused(Error.Busy, runner.continue_job(job.key(), Listener()))
            self.refused(Error.Busy, runner.run_golden_cases(str(self.folder)))
            self.refused(Error.Busy, runner.benchmark_blocks(False, 1))
            job.cancel()
            listener.wait_for_end()
            wait_until(job.is_over)

            async def at_once():
                checks = [runner.benchmark_blocks(False, 20), runner.run_golden_cases(str(self.folder))]
                return await asyncio.gather(*checks, runner.submit(request(), Listener()), return_exceptions=True)

            timings, *refused = asyncio.run(at_once())
            self.assertEqual([timing.failure for timing in timings], [None] * 3)
            self.assertEqual([type(error) for error in refused], [Error.Busy] * 2)
            self.make(runner, request())

    def test_saved_work(self):
        with self.runner() as runner:
            listener = Listener()
            job = self.submit(runner, request(steps=500), listener)
            listener.wait_for("step")
            key = job.key()
            del job
            listener.wait_for_end()
            self.assertEqual([video.key for video in asyncio.run(runner.unfinished())], [key])
        with self.runner(precision=sora.ComputePrecision.F16) as other:
            self.refused(Error.SavedWork, other.continue_job(key, Listener()), "f32")
            self.assertIn("f32", asyncio.run(other.unfinished())[0].obstacle)
        saved = self.folder / "cache" / "jobs" / f"{key}.sora-job"
        saved.write_bytes(saved.read_bytes()[:-9])
        with self.runner() as runner:
            self.refused(Error.SavedWork, runner.continue_job(key, Listener()))
            self.assertIsNotNone(asyncio.run(runner.unfinished())[0].obstacle)
            asyncio.run(runner.forget(key))
            self.assertEqual(asyncio.run(runner.unfinished()), [])

    def test_system(self):
        file = self.folder / "file"
        file.write_text("no folder")
        self.refused(Error.System, sora.SoraRunner.open(self.config(cache_folder=str(file))), "file")
        with self.runner() as runner:
            shutil.rmtree(self.folder / "cache")
            self.refused(Error.System, runner.submit(request(), Listener()), "cache")
            self.refused(Error.System, runner.unfinished())

    def test_telemetry(self):
        for bad in (
            sora.TelemetryConfig(scrape_address="nowhere"),
            sora.TelemetryConfig(file=str(self.folder / "t"), interval_seconds=0.0),
            sora.TelemetryConfig(file=str(self.folder / "t"), interval_seconds=float("nan")),
            sora.TelemetryConfig(file=str(self.folder)),
        ):
            self.refused(Error.Telemetry, sora.SoraRunner.open(self.config(telemetry=bad)))
        with self.runner() as runner:
            self.refused(Error.Telemetry, runner.push_metrics("https://gateway", 1.0), "http://")
            self.refused(Error.Telemetry, runner.push_metrics("http://gateway:9091", -1.0), "0.1")
            late = sora.TelemetryConfig(scrape_address="127.0.0.1:1")
            self.refused(Error.Telemetry, sora.SoraRunner.open(self.config(telemetry=late)), "first")


class Failures(RunnerCase):
    """A job that fails says why, and the others go on."""

    def failed(self, runner, **settings):
        listener = Listener()
        job = self.submit(runner, request(**settings), listener)
        self.assertEqual(listener.wait_for_end(), "failed")
        wait_until(job.is_over)
        self.assertTrue(listener.failure.message)
        return listener.failure

    # Whoever has a runner cannot bring these about on a CPU, with the reason. `src/error.rs` tests how they are told.
    NOT_PROVOKED = {
        "BAD_INPUT": "what a request asks for is looked at before it is accepted",
        "DEVICE": "a device is opened with the runner, and then stays",
        "OVER_BUDGET": "no budget is set that fails a video under way, and others are refused",
        "STAGE_DIED": "a stage dies of a bug alone",
        "CONSUMER_GONE": "a runner waits for its listeners without end",
    }

    def test_every_kind_of_failure_is_provoked_here(self):
        here = Path(__file__).read_text()
        provoked = {kind.name for kind in sora.FailureKind if f"FailureKind.{kind.name}" in here}
        self.assertEqual({kind.name for kind in sora.FailureKind} - provoked, set(self.NOT_PROVOKED))

    def test_weights_that_are_cut_while_they_are_in_use(self):
        model = self.folder / "model"
        shutil.copytree(MODEL, model)
        with self.runner(model_folder=str(model)) as runner:
            weights = model / "t5" / "model.safetensors"
            whole = weights.read_bytes()
            weights.write_bytes(whole[: len(whole) // 2])
            failure = self.failed(runner)
            self.assertEqual(failure.kind, sora.FailureKind.BAD_MODEL)
            self.assertIn("t5", failure.message)
            weights.write_bytes(whole)
            self.assertEqual(len(self.make(runner, request()).frames_seen), 17)

    def test_numbers_that_overflow(self):
        with self.runner() as runner:
            failure = self.failed(runner, guidance_scale=1e300)
            self.assertEqual(failure.kind, sora.FailureKind.COMPUTE)
            self.assertEqual(len(self.make(runner, request()).frames_seen), 17)

    def test_a_listener_that_says_why_it_cannot_go_on(self):
        with self.runner() as runner:
            listener = Listener(fail_at="step", error=sora.ListenerError.Failed(reason="the disk is full"))
            job = self.submit(runner, request(), listener)
            self.assertEqual(listener.wait_for_end(), "failed")
            wait_until(job.is_over)
            self.assertEqual(listener.failure.kind, sora.FailureKind.LISTENER)
            self.assertIn("the disk is full", listener.failure.message)

    def test_work_that_cannot_be_saved(self):
        with self.runner() as runner:
            asyncio.run(runner.pause())
            listener = Listener()
            job = self.submit(runner, request(), listener)
            shutil.rmtree(self.folder / "cache")
            runner.resume()
            self.assertEqual(listener.wait_for_end(), "failed")
            self.assertEqual(listener.failure.kind, sora.FailureKind.OUTPUT)
            wait_until(job.is_over)


if __name__ == "__main__":
    unittest.main()
