"""Runs functions for LocalStack: one process for each execution environment.

Not emulated: limits of memory and CPU, isolation, other architectures than this machine's.
"""

import threading
import time
from pathlib import Path

from localstack import config
from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from tidewater_localstack.runtime_api import Answer, Invocation, error
from tidewater_localstack.sandbox import Sandbox, StartFailed


class ProcessRuntimeExecutor(RuntimeExecutor):
    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._environment: dict[str, str] = {}
        self._sandbox: Sandbox | None = None
        # An environment serves one invocation at a time.
        self._busy = threading.Lock()
        self._stopped = False

    def start(self, env_vars: dict[str, str]) -> None:
        self._environment = {
            name: str(value) for name, value in env_vars.items() if value is not None
        }
        try:
            self._open()
        except StartFailed as failure:
            raise StatusErrorException(str(failure), payload=failure.payload) from failure

    def stop(self) -> None:
        # Not under the lock: this interrupts an invocation.
        self._stopped = True
        if self._sandbox is not None:
            self._sandbox.close()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        with self._busy:
            request_id = payload["invoke-id"]
            try:
                sandbox = self._open()
            except StartFailed as failure:
                return InvocationResult(request_id, failure.payload, is_error=True, logs="")
            answer = self._ask(sandbox, payload)
            log = sandbox.log()
            return InvocationResult(request_id, answer.payload, answer.is_error, logs=log)

    def _open(self) -> Sandbox:
        """The process, which is started if there is none: after a crash or a timeout, as on AWS."""
        if self._sandbox is not None and not self._sandbox.has_ended():
            return self._sandbox
        if self._sandbox is not None:
            self._sandbox.close()
        if self._stopped:
            raise StartFailed(error("Sandbox.Stopped", "the environment was stopped"))
        name = self.function_version.id.function_name
        code = Path(self.function_version.config.code.get_unzipped_code_location())
        self._sandbox = Sandbox(name, code, self._environment)
        try:
            self._sandbox.wait_until_ready(config.LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT)
        except StartFailed:
            self._sandbox.close()
            raise
        return self._sandbox

    def _ask(self, sandbox: Sandbox, payload: dict[str, str]) -> Answer:
        seconds = self.function_version.config.timeout
        invocation = Invocation(
            request_id=payload["invoke-id"],
            function_arn=payload["invoked-function-arn"],
            trace_id=payload["trace-id"],
            payload=payload["payload"].encode(),
            deadline_ms=int((time.time() + seconds) * 1000),
        )
        try:
            return sandbox.invoke(invocation, seconds)
        except TimeoutError:
            sandbox.close()
            return error("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds")

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        # An address, not a name: the SDKs then put the bucket into the path of S3's URLs.
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        # For LocalStack's own start program, which is not used here.
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    def get_logs(self) -> str:
        return "" if self._sandbox is None else self._sandbox.log()

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        pass  # LocalStack itself removes the code.
