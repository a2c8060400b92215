"""People for browser tests: each behind a reverse proxy of their own, which says who they are and passes all else
on."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class PersonProxy:
    """A proxy on loopback in front of a server: every request of its port is this person's. Sockets pass as they
    are."""

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


# -- when a meeting's item is on somebody's screen
# ----------------------------------------------------------------------

WATCH = """() => {
  window.places = {};
  const place = () => document.querySelector('[data-testid="meeting-place"]')?.textContent.match(/(\\d+) of/)?.[1];
  const look = () => { const at = place(); if (at && !(at in window.places)) window.places[at] = Date.now(); };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  window.moved = [];
  document.addEventListener("keydown", (event) => event.key === "ArrowRight" && window.moved.push(Date.now()), true);
  look();
}"""
"""Write down, in the browser itself, when each item of a meeting appears and when a key asks for the next."""


def delays(lead, followers, moves: int) -> dict[str, list[float]]:
    """Let the lead move on ``moves`` times → per follower (by name) the milliseconds from the lead's key to the item on
    the follower's screen, by the clocks of the browsers, which are one machine's. All watch (``WATCH``) beforehand."""
    start = int(lead.evaluate("Math.max(...Object.keys(window.places).map(Number))"))
    for at in range(start + 1, start + moves + 1):
        lead.keyboard.press("ArrowRight")
        for page in (lead, *followers.values()):
            page.wait_for_function(f"window.places['{at}']")
    pressed = lead.evaluate("window.moved")[-moves:]
    seen = {name: page.evaluate("window.places") for name, page in followers.items()}
    return {name: [places[str(start + 1 + k)] - pressed[k] for k in range(moves)] for name, places in seen.items()}


def round_trip(page) -> float:
    """Milliseconds that one look at the meeting takes now, from the page and back: what a busy machine adds to each
    step."""
    once = """async () => {
        const start = Date.now();
        await (await fetch("/hardlook/meeting?known=")).text();
        return Date.now() - start;
    }"""
    return sorted(page.evaluate(once) for _ in range(3))[1]
