"""Telemetry: a page, a port, a gateway, a file. A process has one page, so each of these is a process of its own."""

import asyncio
import http.server
import json
import socket
import subprocess
import sys
import threading
import unittest
import urllib.request
from pathlib import Path

import sora_ios_runner as sora
from support import RunnerCase, request, wait_until

SECRET = "a red ball rolls to the right"
SECRET_FEAR = "a blue square"


def listening_socket(port):
    """What Linux calls the socket that listens at a port of this machine; other systems do not tell."""
    sockets = Path("/proc/net/tcp")
    for line in sockets.read_text().splitlines()[1:] if sockets.exists() else []:
        _, here, _, state, *_, inode = line.split()[:10]
        if state == "0A" and int(here.rpartition(":")[2], 16) == port:
            return inode
    return None


class Gateway(http.server.BaseHTTPRequestHandler):
    """Keeps what is pushed."""

    pages = []

    def do_PUT(self):
        self.pages.append((self.path, self.rfile.read(int(self.headers["content-length"])).decode()))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Telemetry(RunnerCase):
    def test_metrics_as_text_to_a_gateway_and_into_a_file(self):
        gateway = http.server.HTTPServer(("127.0.0.1", 0), Gateway)
        self.addCleanup(gateway.server_close)
        self.addCleanup(gateway.shutdown)
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        file = self.folder / "telemetry" / "lines.jsonl"
        telemetry = sora.TelemetryConfig(file=str(file), interval_seconds=0.1)
        with self.runner(telemetry=telemetry) as runner:
            url = f"http://127.0.0.1:{gateway.server_port}/metrics/job/sora/instance/phone"
            asyncio.run(runner.push_metrics(url, 0.1))
            runner.report_footprint(1 << 30)
            self.make(runner, request(SECRET, negative_prompt=SECRET_FEAR))
            self.assertIn("sora_denoise_steps_computed_total", runner.metrics_text())
            pushed = len(Gateway.pages)
            wait_until(lambda: len(Gateway.pages) > pushed)
            asyncio.run(runner.stop_pushing())
            path, page = Gateway.pages[-1]
            self.assertEqual(path, "/metrics/job/sora/instance/phone")
            self.assertIn("sora_prompts_total", page)
            wait_until(lambda: '"event":"finished"' in file.read_text())
        wait_until(lambda: file.read_text().endswith("\n"))
        text = file.read_text()
        for secret in ("red ball", "blue square"):
            self.assertNotIn(secret, text)
        lines = [json.loads(line) for line in text.splitlines()]
        events = {line["event"] for line in lines}
        self.assertLessEqual({"metrics", "queued", "embedded", "step", "chunk", "finished"}, events)
        self.assertTrue(all("unix_seconds" in line for line in lines))
        self.assertNotIn("red ball", runner.metrics_text())

    def scrape(self, port):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            self.assertIn("sora_memory_budget_bytes", answer.read().decode())

    def test_metrics_are_served_to_those_who_scrape(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = (
            "import asyncio, sys, sora_ios_runner as sora\n"
            "telemetry = sora.TelemetryConfig(scrape_address=sys.argv[2])\n"
            "config = sora.RunnerConfig(cache_folder=sys.argv[1], telemetry=telemetry)\n"
            "runner = asyncio.run(sora.SoraRunner.open(config))\n"
            "again = asyncio.run(sora.SoraRunner.open(config))\n"
            "print('open', flush=True)\n"
            "for _ in sys.stdin: runner.resume()\n"
        )
        arguments = [sys.executable, "-c", program, self.folder / "cache", f"127.0.0.1:{port}"]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), "open\n")
            self.scrape(port)
            # The system may have taken the port while the app was away.
            before = listening_socket(port)
            print("resume", file=process.stdin, flush=True)
            wait_until(lambda: before is None or listening_socket(port) not in (before, None))
            self.scrape(port)
            process.stdin.close()
            self.assertEqual(process.wait(60), 0)


if __name__ == "__main__":
    unittest.main()
