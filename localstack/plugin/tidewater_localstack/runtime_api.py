"""The Lambda Runtime API for one process: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

The process asks for the next invocation, works, and posts its answer; so it has one at a time.
"""

import dataclasses
import http.client
import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tidewater_localstack.streaming import buffered

VERSION = "/2018-06-01/runtime/"


@dataclasses.dataclass(frozen=True)
class Invocation:
    """What the process is asked."""

    request_id: str
    function_arn: str
    trace_id: str
    payload: bytes
    deadline_ms: int  # Since 1970.


@dataclasses.dataclass(frozen=True)
class Answer:
    """What it said: a result, or an error as AWS words it."""

    payload: bytes
    is_error: bool


def error(kind: str, message: str) -> Answer:
    return Answer(json.dumps({"errorType": kind, "errorMessage": message}).encode(), True)


class RuntimeApi:
    """Serves one process on a port of its own until it is closed."""

    def __init__(self) -> None:
        self._invocations: queue.Queue[Invocation | None] = queue.Queue()
        # Either the process is ready (None) or its start failed.
        self._started: queue.Queue[Answer | None] = queue.Queue()
        self._is_ready = False
        self._answers: queue.Queue[tuple[str, Answer]] = queue.Queue()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        # Closing does not wait for connections: theirs ends with the process.
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def started(self, within_seconds: float) -> Answer | None:
        """Waits until the process asks for work: None. An error if it fails, TimeoutError if late."""
        try:
            return self._started.get(timeout=within_seconds)
        except queue.Empty:
            raise TimeoutError from None

    def invoke(self, invocation: Invocation, within_seconds: float) -> Answer:
        """Hands an invocation over and waits for its answer. TimeoutError if that is late."""
        self._invocations.put(invocation)
        while True:
            try:
                request_id, answer = self._answers.get(timeout=within_seconds)
            except queue.Empty:
                raise TimeoutError from None
            # One process serves one invocation: another id is that of its end.
            if request_id in (invocation.request_id, ""):
                return answer

    def process_ended(self, answer: Answer) -> None:
        """Whoever waits for the process gets this answer."""
        self._started.put(answer)
        self._answers.put(("", answer))

    def close(self) -> None:
        self._invocations.put(None)
        self._server.shutdown()
        self._server.server_close()

    def _next(self) -> Invocation | None:
        if not self._is_ready:
            self._is_ready = True
            self._started.put(None)
        return self._invocations.get()

    def _init_failed(self, payload: bytes) -> None:
        self._started.put(Answer(payload, True))

    def _answered(self, request_id: str, answer: Answer) -> None:
        self._answers.put((request_id, answer))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        # A process that is killed breaks its connection, and its end is reported by who watches it.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer is one small write: it must not wait for an acknowledgement.
        disable_nagle_algorithm = True

        def log_message(self, *args) -> None:
            pass

        def do_GET(self) -> None:
            if self.path != f"{VERSION}invocation/next":
                return self._reply(404)
            invocation = api._next()
            if invocation is None:
                self.close_connection = True
                return None
            headers = {
                "Content-Type": "application/json",
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
                "Lambda-Runtime-Trace-Id": invocation.trace_id,
            }
            return self._reply(200, invocation.payload, headers)

        def do_POST(self) -> None:
            try:
                body, failed_midway = self._body()
            except (OSError, ValueError, http.client.HTTPException):
                # The process died while it answered; its end is reported by who watches it.
                self.close_connection = True
                return None
            match self.path.removeprefix(VERSION).split("/"):
                case ["init", "error"]:
                    api._init_failed(body)
                case ["invocation", request_id, "error"]:
                    api._answered(request_id, Answer(body, True))
                case ["invocation", request_id, "response"]:
                    mode = self.headers.get("Lambda-Runtime-Function-Response-Mode", "")
                    if failed_midway is not None:
                        answer = error(failed_midway, "the function failed while it streamed")
                    elif mode.lower() == "streaming":
                        answer = Answer(buffered(body), False)
                    else:
                        answer = Answer(body, False)
                    api._answered(request_id, answer)
                case _:
                    return self._reply(404)
            return self._reply(202, b'{"status":"OK"}\n')

        def _reply(self, status: int, body: bytes = b"", headers: dict | None = None) -> None:
            try:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def _body(self) -> tuple[bytes, str | None]:
            """The whole body; and the kind of error if the function failed while it streamed."""
            if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
                return self.rfile.read(int(self.headers.get("Content-Length", 0))), None
            body = bytearray()
            while length := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(length)
                self.rfile.readline()
            trailers = http.client.parse_headers(self.rfile)
            return bytes(body), trailers.get("Lambda-Runtime-Function-Error-Type")

    return Handler
