"""People for browser tests: each behind a reverse proxy of their own, which says who they are and passes all else on."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class PersonProxy:
    """A proxy on loopback in front of a server: every request of its port is this person's. Sockets pass as they are."""

    def __init__(self, name: str, port: int):
        self.name, self.target = name, port
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listening.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self.listening.close()

    def _serve(self) -> None:
        while True:
            try:
                browser, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(browser,), daemon=True).start()

    def _pass_on(self, browser: socket.socket) -> None:
        with contextlib.suppress(OSError), browser:
            head = b""
            while b"\r\n\r\n" not in head:
                part = browser.recv(65536)
                if not part:
                    return
                head += part
            head, _, rest = head.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            own = [line for line in lines[1:] if not line.lower().startswith((b"x-forwarded-user:", b"connection:"))]
            upgrade = any(line.lower().startswith(b"upgrade: websocket") for line in own)
            own.append(b"X-Forwarded-User: " + self.name.encode())
            own.append(b"Connection: Upgrade" if upgrade else b"Connection: close")
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                server.sendall(b"\r\n".join([lines[0], *own]) + b"\r\n\r\n" + rest)
                self._both_ways(browser, server)

    @staticmethod
    def _both_ways(browser: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([browser, server], [], [], 120)
            if not ready:
                return
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                (server if one is browser else browser).sendall(data)
