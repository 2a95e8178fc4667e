"""Runs LocalStack until it is told to stop, and leaves nothing behind.

Two processes do that. The one that was started (the front) says when LocalStack is ready and waits
for a signal, or for the end of its standard input. The other (the guard) is out of reach of what
ends the front: it has LocalStack, the DynamoDB emulator and the functions for descendants, waits on
a pipe whose other end only the front holds, and when that closes, however the front ended, it kills
them and removes their files. All state is lost with them, so nothing is stopped gently.
"""

import argparse
import contextlib
import ctypes
import json
import os
import random
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# LocalStack is up in ten seconds; a busy machine may need several times that.
START_SECONDS_MAX = 180
REGION = "us-east-1"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="localstack/start",
        description="Runs an AWS on this machine, without Docker, until it is stopped: with "
        "Ctrl-C, SIGTERM, or as asked for below. When it is ready, it prints what to put into the "
        "environment. What it keeps is lost at the end.",
    )
    parser.add_argument("--port", type=int, help="where it listens on 127.0.0.1 [a free port]")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="stop when standard input ends, as it does when whoever started this is killed",
    )
    return parser.parse_args()


def free_port() -> int:
    """Below the ports that the kernel gives to outgoing connections, so that it stays free."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    sys.exit("localstack/start: no free port between 20000 and 32000")


def environment_of_localstack(port: int, folder: Path) -> dict[str, str]:
    # What people have set for their own LocalStack or AWS account is not for this one.
    ours = ("PATH", "HOME", "LANG", "LC_ALL", "DYNAMODB_EMULATOR")
    return {name: os.environ[name] for name in ours if name in os.environ} | {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        # A name: function URLs put a label before it.
        "LOCALSTACK_HOST": f"localhost:{port}",
        "FILESYSTEM_ROOT": str(folder / "root"),
        # The code of functions goes there. Of the names that Python looks for, LocalStack minds TMPDIR.
        "TEMP": str(folder / "tmp"),
        # Else a container is taken for LocalStack's own, whose folders exist.
        "OVERRIDE_IN_DOCKER": "0",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "LS_LOG": os.environ.get("LS_LOG", "warn"),
        # By default expired and forged URLs of S3 are served.
        "S3_SKIP_SIGNATURE_VALIDATION": "0",
        # Credentials and regions would otherwise each have tables of their own.
        "DYNAMODB_SHARE_DB": "1",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT": "60",
    }


def install_dynamodb(folder: Path) -> None:
    """
    LocalStack runs DynamoDB as `java ... -jar DynamoDBLocal.jar -port N`, both of which it
    downloads unless they are there. These are there, and run our emulator.
    """
    library = folder / "root/var/lib/localstack/lib"
    jar = library / "dynamodb-local/2/DynamoDBLocal.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    java = library / "java/21/bin/java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\n"
        "port=8000\n"
        'while [ $# -gt 0 ]; do [ "$1" = -port ] && port=$2; shift; done\n'
        'exec "$DYNAMODB_EMULATOR" serve --host 127.0.0.1 --port "$port"\n'
    )
    java.chmod(0o755)


def adopt_orphans() -> None:
    """On Linux, children of a process that ended become ours and not those of process 1."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def kill_descendants() -> None:
    import psutil

    # Stopped first, so that none starts another meanwhile; and until there are no more.
    while children := psutil.Process().children(recursive=True):
        for act in (psutil.Process.suspend, psutil.Process.kill):
            for child in children:
                with contextlib.suppress(psutil.Error):
                    act(child)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass


def guard(port: int, folder: Path, front_is_alive: int) -> None:
    """Runs LocalStack until it ends or the pipe from the front closes."""
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # Who reads what the front prints, or feeds it, must not wait for us.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    adopt_orphans()
    try:
        for part in ("root", "tmp"):
            (folder / part).mkdir()
        install_dynamodb(folder)
        localstack = subprocess.Popen(
            [sys.executable, "-m", "tidewater_localstack"],
            cwd=folder,
            env=environment_of_localstack(port, folder),
            preexec_fn=let_signals_through,
        )
        while localstack.poll() is None:
            if select.select([front_is_alive], [], [], 0.2)[0]:
                break
    finally:
        kill_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def let_signals_through() -> None:
    """What is ignored stays so in a child."""
    for usual in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(usual, signal.SIG_DFL)


def is_ready(port: int) -> bool:
    # Not through a proxy that the environment may name.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/_localstack/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Stopped(Exception):
    """A signal, or the end of standard input."""


def wait(guard_is_alive: int, seconds: float | None, until_stdin_closes: bool) -> None:
    """Stopped when we are to stop; exits if LocalStack has ended."""
    watched = [guard_is_alive] + ([0] if until_stdin_closes else [])
    for readable in select.select(watched, [], [], seconds)[0]:
        if readable == guard_is_alive:
            sys.exit("localstack/start: LocalStack has ended")
        if not os.read(0, 4096):
            raise Stopped


def announce(port: int, as_json: bool) -> None:
    variables = {
        # An address, not a name: the SDKs then put the bucket into the path of S3's URLs.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    if as_json:
        print(json.dumps(variables), flush=True)
    else:
        lines = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
        print("\n".join(lines), flush=True)


def stop(*_) -> None:
    raise Stopped


def main() -> None:
    options = arguments()
    port = options.port or free_port()
    guard_is_alive, end_of_guard = os.pipe()
    front_is_alive, end_of_front = os.pipe()
    folder = Path(tempfile.mkdtemp(prefix="tidewater-localstack-"))
    guard_id = os.fork()
    if guard_id == 0:
        os.close(end_of_front)
        os.close(guard_is_alive)
        guard(port, folder, front_is_alive)
        os._exit(0)
    os.close(end_of_guard)
    os.close(front_is_alive)
    try:
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(wanted, stop)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not is_ready(port):
            if time.monotonic() > deadline:
                sys.exit("localstack/start: LocalStack did not become ready in time")
            wait(guard_is_alive, 0.1, options.until_stdin_closes)
        announce(port, options.json)
        while True:
            wait(guard_is_alive, None, options.until_stdin_closes)
    except Stopped:
        pass
    finally:
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(wanted, signal.SIG_IGN)
        os.close(end_of_front)
        os.waitpid(guard_id, 0)


if __name__ == "__main__":
    main()
