"""What LocalStack lacks on a machine without Docker: see README.md beside this package's folder.

LocalStack loads this module at every start, and the rest only when it is used.
"""

from localstack.runtime import hooks
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessRuntimeExecutorPlugin(RuntimeExecutorPlugin):
    """Chosen with LAMBDA_RUNTIME_EXECUTOR=process."""

    name = "process"

    def load(self, *args, **kwargs):
        from tidewater_localstack.executor import ProcessRuntimeExecutor

        return ProcessRuntimeExecutor


@hooks.on_infra_start()
def serve_function_urls_by_path():
    from tidewater_localstack.host_in_path import register

    register()


@hooks.on_infra_start()
def keep_objects_in_the_temporary_folder():
    """The S3 provider's own folder is a fixed one, and what it holds outlives LocalStack."""
    import tempfile
    from pathlib import Path

    from localstack.services.s3 import provider

    provider.DEFAULT_S3_TMP_DIR = str(Path(tempfile.gettempdir()) / "s3")
