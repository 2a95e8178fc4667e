"""LocalStack as users start it: however they end it, nothing of it stays."""

import json
import os
import signal
import subprocess
import time
import unittest
from pathlib import Path

import boto3
import psutil

START = Path(__file__).resolve().parent.parent / "start"


class SupervisorTest(unittest.TestCase):
    def start(self):
        started = subprocess.Popen(
            [START, "--json", "--until-stdin-closes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.addCleanup(started.stdout.close)
        self.addCleanup(started.stdin.close)
        variables = json.loads(started.stdout.readline())
        dynamodb = boto3.client(
            "dynamodb",
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            region_name=variables["AWS_REGION"],
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        # The emulator of DynamoDB is started by the first call.
        self.assertEqual(dynamodb.list_tables()["TableNames"], [])
        all_of_it = psutil.Process(started.pid).children(recursive=True)
        names = " ".join(" ".join(process.cmdline()) for process in all_of_it)
        self.assertIn("tidewater_localstack", names)
        self.assertIn("serve --host", names)
        localstack = next(p for p in all_of_it if "tidewater_localstack" in p.cmdline())
        folder = Path(localstack.environ()["FILESYSTEM_ROOT"]).parent
        self.assertTrue(folder.is_dir())
        return started, [psutil.Process(started.pid), *all_of_it], folder

    def gone(self, started, processes, folder):
        # Its own exit status is not asked for before: who is waited for is gone for psutil.
        started.wait(30)
        _, alive = psutil.wait_procs(processes, timeout=30)
        for process in alive:
            process.kill()
        self.assertEqual(alive, [])
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(folder.exists())

    def test_sigterm_ends_all_of_it(self):
        started, processes, folder = self.start()
        started.send_signal(signal.SIGTERM)
        self.gone(started, processes, folder)
        self.assertEqual(started.returncode, 0)

    def test_killing_the_whole_process_group_of_who_started_it_ends_all_of_it(self):
        started, processes, folder = self.start()
        os.killpg(started.pid, signal.SIGKILL)
        self.gone(started, processes, folder)


if __name__ == "__main__":
    unittest.main()
