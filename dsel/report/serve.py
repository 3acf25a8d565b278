"""A server of one page and its events, for the browser on this machine."""

from __future__ import annotations

import sys
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dsel.error import InputError
from dsel.report.watch import Watch

HOST = "127.0.0.1"  # nobody else's business


class Server(ThreadingHTTPServer):
    """Answers for a `Watch`; a browser that still listens does not keep it from ending."""

    daemon_threads = True

    def __init__(self, watch: Watch, port: int) -> None:
        self.watch = watch
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        """For a browser."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """`/` is the page, `/events` what is new."""

    server: Server

    def do_GET(self) -> None:
        """Only for whoever asked for this machine by its number or name: another site's page may not read along by a name of its own."""
        if self.headers.get("Host") not in (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            page = self.server.watch.page
            self._begin("text/html; charset=utf-8", len(page))
            self.wfile.write(page)
        elif self.path == "/events":
            self._begin("text/event-stream")
            for events in self.server.watch.events():
                lines = [f"event: {name}\ndata: {value}\n\n" for name, value in events]
                self.wfile.write("".join(lines or [": still here\n\n"]).encode())
                self.wfile.flush()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _begin(self, kind: str, length: int | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """The terminal is the sweep's."""


def serve(folder: Path, port: int = 0) -> None:
    """Serve the report on `folder`, which need not exist yet, until Ctrl-C. Port 0: any free one. Errors: a port that is taken."""
    watch = Watch(folder)
    try:
        server = Server(watch, port)
    except (OSError, OverflowError) as error:
        raise InputError(f"report: cannot listen on port {port} ({error}); give another --port, or leave it out") from error
    with suppress(KeyboardInterrupt), server:
        watch.look()
        with watch.going():
            print(f"report: {server.address} shows {folder} as it is; Ctrl-C ends it", flush=True)
            server.serve_forever(poll_interval=0.2)
