"""A file server for tests, on the loopback interface only: guests reach it through QEMU's user network at 10.0.2.2.

    with FileServer(folder) as server:
        server.behave("/debian.img.zst", "short", after=1_000_000)
        url = server.guest_url("debian.img.zst")

Behaviours of a path: `normal` (Content-Length, Range), `short` (closes the connection after `after` bytes of the body,
although Content-Length announced more), `reset` (as `short`, by a TCP reset), `stall` (sends nothing more after these
bytes, until the server closes), `no-range` (ignores Range), `missing` (404), `error` (500).

`cut` drops the connection once at each given offset of the file: in order at even offsets, by a reset at odd ones.
Files have an ETag and a Last-Modified time, and If-Range is obeyed; `validators=False` leaves all of these out.
"""

from __future__ import annotations

import email.utils
import http.server
import re
import socket
import struct
import threading
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

GUEST_ADDRESS = "10.0.2.2"
BEHAVIOURS = ("normal", "short", "reset", "stall", "no-range", "missing", "error")


@dataclass
class Request:
    """One request and its answer."""

    method: str
    path: str
    range: str | None
    status: int
    if_range: str | None = None
    body_bytes: int = 0


@dataclass
class FileServer:
    """Serves the files of a folder on a free port while the block runs."""

    folder: Path
    validators: bool = True
    requests: list[Request] = field(default_factory=list)
    _cuts: dict[str, list[int]] = field(default_factory=dict)
    _behaviours: dict[str, tuple[str, int]] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def behave(self, path: str, behaviour: str, after: int = 0) -> None:
        """Sets how `path` (with its leading slash) is answered from now on; `after`: bytes of the body."""
        if behaviour not in BEHAVIOURS:
            raise ValueError(f"{behaviour!r} is none of {', '.join(BEHAVIOURS)}")
        self._behaviours[path] = (behaviour, after)

    def cut(self, path: str, *offsets: int) -> None:
        """Drops the connection the next time that `path` has been sent up to each of these offsets."""
        self._cuts[path] = sorted(offsets)

    def _next_cut(self, path: str, start: int) -> int | None:
        """The offset at which an answer from `start` is cut; each offset is used once."""
        with self._lock:
            for offset in self._cuts.get(path, []):
                if offset > start:
                    self._cuts[path].remove(offset)
                    return offset
        return None

    def guest_url(self, name: str) -> str:
        """URL of a file for a guest."""
        return f"http://{GUEST_ADDRESS}:{self.port}/{urllib.parse.quote(name)}"

    def host_url(self, name: str) -> str:
        """URL of a file for this host."""
        return f"http://127.0.0.1:{self.port}/{urllib.parse.quote(name)}"

    def __enter__(self) -> FileServer:
        outer = self

        class Handler(_Handler):
            owner = outer

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="file server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    owner: FileServer
    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_HEAD(self) -> None:  # noqa: N802 (the name is http.server's)
        self._answer(with_body=False)

    def do_GET(self) -> None:  # noqa: N802
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Prints nothing: `requests` is the log."""

    def _answer(self, with_body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        behaviour, after = self.owner._behaviours.get(path, ("normal", 0))
        wanted = self.headers.get("Range")
        request = Request(self.command, path, wanted, 0, self.headers.get("If-Range"))
        self.owner.requests.append(request)
        file = (self.owner.folder / path.lstrip("/")).resolve()
        if behaviour == "missing" or not file.is_relative_to(self.owner.folder.resolve()) or not file.is_file():
            return self._refuse(request, 404)
        if behaviour == "error":
            return self._refuse(request, 500)
        about = file.stat()
        total = about.st_size
        tag, changed = f'"{total:x}-{about.st_mtime_ns:x}"', email.utils.formatdate(about.st_mtime, usegmt=True)
        if self.owner.validators and request.if_range not in (None, tag, changed):
            wanted = None
        start, end = 0, total
        request.status = 200
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
        if match and behaviour != "no-range":
            start = int(match[1])
            end = min(total, int(match[2]) + 1) if match[2] else total
            if start >= end:
                return self._refuse(request, 416, ("Content-Range", f"bytes */{total}"))
            request.status = 206
        self.send_response(request.status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        if behaviour != "no-range":
            self.send_header("Accept-Ranges", "bytes")
        if self.owner.validators:
            self.send_header("ETag", tag)
            self.send_header("Last-Modified", changed)
        if request.status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        self.end_headers()
        if not with_body:
            return
        limit = min(end - start, after) if behaviour in ("short", "reset", "stall") else end - start
        if behaviour == "normal" and (cut := self.owner._next_cut(path, start)) is not None and cut < end:
            limit, behaviour = cut - start, ("short", "reset")[cut % 2]
        try:
            with open(file, "rb") as handle:
                handle.seek(start)
                while request.body_bytes < limit:
                    piece = handle.read(min(1 << 18, limit - request.body_bytes))
                    if not piece:
                        break
                    self.wfile.write(piece)
                    request.body_bytes += len(piece)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        if limit < end - start:
            self._break_off(behaviour)

    def _break_off(self, behaviour: str) -> None:
        """Ends a body before its Content-Length."""
        self.close_connection = True
        if behaviour == "stall":
            self.owner._closing.wait(600)
        elif behaviour == "reset":
            # Linger of zero seconds: close() sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _refuse(self, request: Request, status: int, *headers: tuple[str, str]) -> None:
        request.status = status
        text = f"{status}\n".encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if request.method != "HEAD":
            self.wfile.write(text)
