"""The service on a real port: silent, slow and stubborn clients cannot keep others from being answered."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import edge_models
import pytest
import uvicorn

from trm_jax.edge import connections, server
from trm_jax.edge.__main__ import main
from trm_jax.edge.bodies import Limits
from trm_jax.edge.package import open_model
from trm_jax.edge.server import Service, bind
from trm_jax.wafer.generated.synthetic import synthetic_wafers

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = json.dumps({"maps": [synthetic_wafers(9).map(0).tolist()]})


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = edge_models.save(tmp_path_factory.mktemp("edge") / "model.onnx", edge_models.plain())
    return Service(open_model(path), batch=4)


@contextmanager
def running(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a service in a thread."""
    servers: list[uvicorn.Server] = []
    real = uvicorn.Server.run

    def run(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        servers.append(self)
        real(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(uvicorn.Server, "install_signal_handlers", lambda self: None, raising=False)
    with bind("127.0.0.1", 0, "") as listener:
        thread = threading.Thread(target=server.run, args=(service, listener))
        thread.start()
        try:
            while not (servers and servers[0].started):
                time.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            servers[0].should_exit = servers[0].force_exit = True
            thread.join()


def get(port: int, path: str) -> tuple[int, float]:
    """Status and seconds of a request."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status, time.monotonic() - start


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_with_300_silent_connections_health_answers_within_a_second(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(service, monkeypatch) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
        try:
            status, seconds = get(port, "/health")
            assert status == 200 and seconds < 1
            assert is_closed(silent[0])  # the oldest was closed for a newer one
            assert len(connections.Protocol.idle) <= connections.MAX_IDLE
        finally:
            for connection in silent:
                connection.close()


@pytest.mark.parametrize("beginning", [b"", HEAD[:-9], HEAD], ids=["nothing", "half a request", "a second half"])
def test_a_connection_without_a_complete_request_is_closed_in_time(
    service: Service, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    """Also one that has been answered once, and then sends half a request."""
    monkeypatch.setattr(connections, "SECONDS", 0.3)
    with running(service, monkeypatch) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(beginning)
        if beginning.endswith(b"\r\n\r\n"):
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(4096)
            assert b"200 OK" in answer
            connection.sendall(b"GET /hea")
        assert is_closed(connection)


def test_clients_that_ignore_retry_after_are_held_up_and_the_others_answered(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 of them ask again at once: each is refused once in ``retry`` seconds, so that refusing costs little."""
    counts = {200: 0, 503: 0}
    limits, duration = Limits(waiting=1, retry=0.5), 2.0

    async def hammer(port: int, until: float) -> None:
        head = "POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            writer.write(f"{head}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            counts[int(answer.split()[1])] += 1
        writer.close()

    async def hammer_all(port: int) -> None:
        await asyncio.gather(*(hammer(port, time.monotonic() + duration) for _ in range(64)))

    with running(service._replace(limits=limits), monkeypatch) as port:
        asyncio.run(hammer_all(port))
    assert 64 <= counts[503] <= 64 * (duration / limits.retry + 1) and counts[200] > 20


def test_a_port_that_cannot_be_had_is_refused_before_listening_is_said(
    service: Service, capsys: pytest.CaptureFixture
) -> None:
    line = ["serve", "--model", str(service.model.path), "--port"]
    with bind("127.0.0.1", 0, "") as taken:
        taken.listen()
        port = taken.getsockname()[1]
        for wrong, reason in (
            (99999, "--port must be 0 to 65535, got 99999"),
            (-1, "got -1"),
            (port, "cannot listen on"),
        ):
            with pytest.raises(SystemExit, match=f"error: .*{reason}"):
                main([*line, str(wrong)])
    assert "listening" not in capsys.readouterr().err


def test_listening_is_said_once_the_port_answers(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with running(service, monkeypatch) as port:
        assert capsys.readouterr().err.startswith(f"listening on http://127.0.0.1:{port}\n")
        assert get(port, "/health")[0] == 200
