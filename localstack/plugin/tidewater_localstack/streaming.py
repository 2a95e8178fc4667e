"""A streamed answer of a function, as the buffered answer that LocalStack understands."""

import base64
import json

# Ends the head of a streamed answer: eight zero bytes.
HEAD_END = b"\0" * 8


def buffered(streamed: bytes) -> bytes:
    """
    Of a streamed answer: a JSON object with status, headers and cookies, eight zero bytes, and the
    body as it is. What has no such head is no HTTP answer, and stays as it is.
    """
    head, end, body = streamed.partition(HEAD_END)
    if not end:
        return streamed
    try:
        answer = json.loads(head)
    except ValueError:
        return streamed
    if not isinstance(answer, dict):
        return streamed
    answer.setdefault("statusCode", 200)
    answer["body"] = base64.b64encode(body).decode()
    answer["isBase64Encoded"] = True
    return json.dumps(answer).encode()
