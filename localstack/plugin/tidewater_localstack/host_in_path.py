"""Reaches what LocalStack tells apart by host name without a resolver that knows the name.

A function URL is http://<id>.lambda-url.<region>.localhost:<port>/. Browsers and curl take any name
under .localhost for this machine; many resolvers do not. So the same function also answers at

    http://127.0.0.1:<port>/_host/<id>.lambda-url.<region>.localhost/<path>
"""

from localstack.http import Request, Response
from localstack.services.edge import ROUTER
from localstack.utils.urls import localstack_host
from rolo.request import restore_payload
from werkzeug.datastructures import Headers

PREFIX = "/_host/"


def register() -> None:
    ROUTER.add(f"{PREFIX}<host>", endpoint=serve)
    ROUTER.add(f"{PREFIX}<host>/<path:path>", endpoint=serve)


def serve(request: Request, host: str, path: str = "") -> Response:
    """Answers as if the host of the path had been asked."""
    headers = Headers(request.headers)
    headers["Host"] = f"{host}:{localstack_host().port}"
    asked = Request(
        method=request.method,
        path=f"/{path}",
        headers=headers,
        body=restore_payload(request),
        query_string=request.query_string,
        remote_addr=request.remote_addr,
        server=(host, localstack_host().port),
    )
    return ROUTER.dispatch(asked)
