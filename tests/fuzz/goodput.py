"""How much the service still answers when clients do not go away: `make goodput`, a minute.

Its best goodput is that of 1 to 8 clients that wait for their answers. Then 64 clients ignore Retry-After and ask again
at once, and then 300 connections send nothing while /health is asked. The exit code is 1 below 70 % of the best
goodput, or where /health takes longer than a second.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from trm_jax.wafer.generated.synthetic import synthetic_wafers  # noqa: E402

WAITING, STUBBORN, SILENT = (1, 2, 4, 8), 64, 300
LEAST_SHARE, MOST_SECONDS = 0.7, 1.0


async def _ask(port: int, request: bytes, until: float) -> int:
    """Number of maps that one client gets answered until a time, asking again at once whatever it is told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))  # type: ignore[index]
        answered += head.split()[1] == b"200"
    writer.close()
    return answered


async def goodput(port: int, request: bytes, clients: int, seconds: float) -> float:
    """Maps answered in a second, all clients together."""
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(_ask(port, request, until) for _ in range(clients)))) / seconds


def health_beside_silence(port: int) -> float:
    """Seconds that /health takes while connections are open that send nothing."""
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(SILENT)]
    start = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
        answer.read()
    seconds = time.monotonic() - start
    for connection in silent:
        connection.close()
    return seconds


def main() -> None:
    """Start the service, measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "checkpoints" / "wafer-edge" / "onnx", help="package")
    parser.add_argument("--seconds", type=float, default=8.0, help="time of each measurement")
    arguments = parser.parse_args()
    body = json.dumps({"maps": [synthetic_wafers(9).map(0).tolist()]})
    head = (
        f"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    request = f"{head}\r\n\r\n{body}".encode()
    command = [sys.executable, "-m", "trm_jax.edge", "serve", "--model", arguments.model, "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as service:
        try:
            line = next(line for line in service.stderr or () if line.startswith("listening"))
            port = int(line.rsplit(":", 1)[1])
            time.sleep(1)
            by_clients = {n: asyncio.run(goodput(port, request, n, arguments.seconds)) for n in (*WAITING, STUBBORN)}
            seconds = health_beside_silence(port)
        finally:
            service.kill()
    share = by_clients[STUBBORN] / max(by_clients[n] for n in WAITING)
    for clients, rate in by_clients.items():
        print(f"{clients:3} clients: {rate:7.1f} maps/s")
    print(f"{STUBBORN} that ignore Retry-After keep {share:.0%} of the best; at least {LEAST_SHARE:.0%} is asked")
    print(f"/health beside {SILENT} silent connections: {seconds:.3f} s; at most {MOST_SECONDS:g} s is asked")
    sys.exit(0 if share >= LEAST_SHARE and seconds <= MOST_SECONDS else 1)


if __name__ == "__main__":
    main()
