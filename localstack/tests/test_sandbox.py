"""The plugin's own part: a process, the API it speaks to, and how either ends."""

import json
import os
import tempfile
import textwrap
import time
import unittest
from pathlib import Path

from tidewater_localstack.runtime_api import Invocation
from tidewater_localstack.sandbox import Sandbox, StartFailed
from tidewater_localstack.streaming import buffered

# What every bootstrap here begins with: the runtime's side of the API.
RUNTIME = """\
#!/usr/bin/env python3
import http.client, json, os, subprocess, sys, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def next_invocation():
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    return answer.headers["Lambda-Runtime-Aws-Request-Id"], answer.read()
def post(path, body, **more):
    api.request("POST", "/2018-06-01/runtime/" + path, body, **more)
    return api.getresponse().read()
"""


class Function:
    """A bootstrap, and the sandbox that runs it."""

    def __init__(self, test: unittest.TestCase, program: str, environment=None):
        folder = Path(test.enterContext(tempfile.TemporaryDirectory()))
        (folder / "bootstrap").write_text(RUNTIME + textwrap.dedent(program))
        self.sandbox = Sandbox("function", folder, environment or {})
        test.addCleanup(self.sandbox.close)

    def ready(self) -> "Function":
        self.sandbox.wait_until_ready(30)
        return self

    def invoke(self, payload: bytes = b"{}", within_seconds: float = 30):
        invocation = Invocation("r1", "arn", "trace", payload, int(time.time() * 1000) + 30_000)
        return self.sandbox.invoke(invocation, within_seconds)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may have waited for it yet.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


class SandboxTest(unittest.TestCase):
    def test_invocations_are_answered_one_after_the_other(self):
        function = Function(self, """
            while True:
                request, payload = next_invocation()
                post(f"invocation/{request}/response", json.dumps({"was": json.loads(payload)}))
        """).ready()
        for number in range(3):
            answer = function.invoke(json.dumps(number).encode())
            self.assertEqual((json.loads(answer.payload), answer.is_error), ({"was": number}, False))

    def test_an_error_of_the_function_is_one(self):
        function = Function(self, """
            request, _ = next_invocation()
            post(f"invocation/{request}/error", '{"errorMessage": "no"}')
            next_invocation()
        """).ready()
        answer = function.invoke()
        self.assertTrue(answer.is_error)
        self.assertEqual(json.loads(answer.payload), {"errorMessage": "no"})

    def test_a_failed_start_is_told_with_its_reason(self):
        function = Function(self, """
            post("init/error", '{"errorMessage": "TIDEWATER_BUCKET is not set"}')
            sys.exit(1)
        """)
        with self.assertRaisesRegex(StartFailed, "TIDEWATER_BUCKET is not set"):
            function.sandbox.wait_until_ready(30)

    def test_a_process_that_ends_at_its_start_is_told_with_its_status(self):
        function = Function(self, "sys.exit(3)")
        with self.assertRaisesRegex(StartFailed, "exit status 3"):
            function.sandbox.wait_until_ready(30)

    def test_a_process_that_ends_while_it_works_ends_the_invocation(self):
        function = Function(self, "next_invocation(); os.kill(os.getpid(), 9)").ready()
        answer = function.invoke()
        self.assertTrue(answer.is_error)
        self.assertIn(b"signal 9", answer.payload)
        self.assertTrue(function.sandbox.has_ended())

    def test_an_invocation_that_takes_too_long_is_given_up(self):
        function = Function(self, "next_invocation(); time.sleep(600)").ready()
        with self.assertRaises(TimeoutError):
            function.invoke(within_seconds=0.2)

    def test_closing_kills_what_the_process_started_and_removes_its_files(self):
        function = Function(self, """
            child = subprocess.Popen(["sleep", "600"])
            request, _ = next_invocation()
            post(f"invocation/{request}/response",
                 json.dumps([os.getpid(), child.pid, os.environ["TMPDIR"]]))
            next_invocation()
        """).ready()
        *pids, folder = json.loads(function.invoke().payload)
        self.assertTrue(all(map(is_alive, pids)) and Path(folder).is_dir())
        function.sandbox.close()
        deadline = time.monotonic() + 10
        while any(map(is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual([is_alive(pid) for pid in pids], [False, False])
        self.assertFalse(Path(folder).exists())

    def test_a_streamed_answer_arrives_as_a_whole(self):
        function = Function(self, """
            request, _ = next_invocation()
            def chunks():
                yield b'{"statusCode": 201, "headers": {"a": "b"}}'
                yield bytes(8)
                yield b"one "
                yield b"two"
            post(f"invocation/{request}/response", chunks(), encode_chunked=True, headers={
                "Lambda-Runtime-Function-Response-Mode": "streaming",
                "Transfer-Encoding": "chunked"})
            next_invocation()
        """).ready()
        answer = json.loads(function.invoke().payload)
        self.assertEqual((answer["statusCode"], answer["headers"]), (201, {"a": "b"}))
        self.assertEqual((answer["body"], answer["isBase64Encoded"]), ("b25lIHR3bw==", True))

    def test_a_stream_that_fails_midway_is_an_error(self):
        function = Function(self, """
            request, _ = next_invocation()
            api.putrequest("POST", f"/2018-06-01/runtime/invocation/{request}/response")
            for header in [("Transfer-Encoding", "chunked"),
                           ("Lambda-Runtime-Function-Response-Mode", "streaming")]:
                api.putheader(*header)
            api.endheaders()
            api.send(b"3\\r\\none\\r\\n0\\r\\nLambda-Runtime-Function-Error-Type: Cut\\r\\n\\r\\n")
            api.getresponse().read()
            next_invocation()
        """).ready()
        answer = function.invoke()
        self.assertTrue(answer.is_error)
        self.assertEqual(json.loads(answer.payload)["errorType"], "Cut")


class StreamingTest(unittest.TestCase):
    def test_what_is_no_http_answer_stays_as_it_is(self):
        for body in [b"", b'"text"', b"{}", b"no json" + bytes(8) + b"x", b"[]" + bytes(8)]:
            self.assertEqual(buffered(body), body)

    def test_a_body_may_hold_anything(self):
        answer = json.loads(buffered(b'{"cookies": ["a=b"]}' + bytes(8) + bytes(8) + b"\xff"))
        self.assertEqual((answer["statusCode"], answer["cookies"]), (200, ["a=b"]))
        self.assertEqual(answer["body"], "AAAAAAAAAAD/")


if __name__ == "__main__":
    unittest.main()
