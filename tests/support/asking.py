"""An echoing ASGI app with its entrance, and requests to a guard without a network."""

import asyncio

from curate.serving.address import Entrance

TOKEN, TICKET, PORT = "s3cret", "once", 5151
HOST = f"127.0.0.1:{PORT}"
ENTRANCE = Entrance("127.0.0.1", PORT, frozenset({"127.0.0.1", "localhost"}), TOKEN, TICKET)


async def app(scope, receive, send):
    """Echo path, query and body."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body or scope["path"].encode()})


def ask(guard, path="/", query="", *, method="GET", body=b"", server=("127.0.0.1", PORT), headers=None, **more):
    """Status, headers and body of a response; cookie and host are valid unless others are given."""
    headers = {"host": HOST, "cookie": f"other=1; curate_{PORT}={TOKEN}"} | (headers or {}) | more
    parts = [body[:3], body[3:]]
    sent = []

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(), "server": server,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value is not None],
    }  # fmt: skip
    asyncio.run(guard(scope, receive, send))
    start, *rest = sent
    return start["status"], dict(start["headers"]), b"".join(one["body"] for one in rest)
