"""Connections of the service: those that send no complete request in time, or are too many, are closed."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 10.0
"""Time for the head of a request to arrive."""
MAX_IDLE = 256
"""Connections without a request; the oldest is closed for a newer one, so that /health is answered however many."""


class Protocol(H11Protocol):
    """HTTP/1.1 of uvicorn, which itself waits forever for a first request and answers 503 when too many wait."""

    idle: ClassVar[dict["Protocol", asyncio.TimerHandle]] = {}
    """Connections without a request, the oldest first, each with what will close it."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once the head of a request is complete."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        if len(self.idle) >= MAX_IDLE:
            next(iter(self.idle)).close()
        self.idle[self] = self.loop.call_later(SECONDS, self.close)

    def _stop_waiting(self) -> None:
        timer = self.idle.pop(self, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Close a connection that has no request."""
        self._stop_waiting()
        self.transport.close()
