"""One process that runs a function's `bootstrap`, with the API it speaks to."""

import collections
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tidewater_localstack.runtime_api import Answer, Invocation, RuntimeApi, error

# Lines that a function has written and that go into its log.
LOG_LINES_MAX = 1_000


class StartFailed(Exception):
    """The process did not get as far as asking for work."""

    def __init__(self, answer: Answer):
        super().__init__(answer.payload.decode(errors="replace"))
        self.payload = answer.payload


class Sandbox:
    """Runs until it is closed, or ends by itself."""

    def __init__(self, name: str, code: Path, environment: dict[str, str]) -> None:
        self._name = name
        self._log = collections.deque(maxlen=LOG_LINES_MAX)
        self._api = RuntimeApi()
        # A function has /tmp to itself.
        self._scratch = tempfile.mkdtemp(prefix="function-")
        bootstrap = code / "bootstrap"
        try:
            bootstrap.chmod(0o755)
            self._process = subprocess.Popen(
                [bootstrap],
                cwd=code,
                env={
                    "PATH": os.environ["PATH"],
                    **environment,
                    "AWS_LAMBDA_RUNTIME_API": self._api.address,
                    "LAMBDA_TASK_ROOT": str(code),
                    "TMPDIR": self._scratch,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # What it starts ends with it.
                start_new_session=True,
            )
        except OSError as cause:
            self._close_api()
            answer = error("Runtime.InvalidEntrypoint", f"{bootstrap} cannot be run: {cause}")
            raise StartFailed(answer) from cause
        threading.Thread(target=self._watch, daemon=True).start()

    def wait_until_ready(self, within_seconds: float) -> None:
        """StartFailed if it is not."""
        try:
            answer = self._api.started(within_seconds)
        except TimeoutError:
            answer = error("Sandbox.Timedout", f"no start within {within_seconds} s")
        if answer is not None:
            raise StartFailed(answer)

    def invoke(self, invocation: Invocation, within_seconds: float) -> Answer:
        """TimeoutError if it takes longer; the process is then still at it."""
        # What Lambda itself logs.
        self._log.append(f"START RequestId: {invocation.request_id} Version: $LATEST")
        answer = self._api.invoke(invocation, within_seconds)
        self._log.append(f"END RequestId: {invocation.request_id}")
        return answer

    def log(self) -> str:
        return "\n".join(list(self._log))

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        """Kills the process and all it started, as AWS does: a function gets no signal before."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close_api()

    def _close_api(self) -> None:
        self._api.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _watch(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                self._log.append(text)
                print(f"[{self._name}] {text}", file=sys.stderr, flush=True)
        status = self._process.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        self._api.process_ended(error("Runtime.ExitError", f"the function ended: {how}"))
