"""Answers over HTTP, for machines that send maps one by one: POST /classify, GET /health, GET /metrics.

Needs the extra ``serve`` (fastapi, uvicorn, prometheus-client). A body is JSON, ``{"maps": [[[0, 1, 2, ...], ...]]}``,
or an .npz in the layout of the data sets; pickles are never read.
"""

import asyncio
import hmac
import io
import ipaddress
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import prometheus_client
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from trm_jax.edge.classify import Classified, classify
from trm_jax.edge.monitor import Monitor
from trm_jax.edge.package import Model
from trm_jax.support.files import DAMAGE
from trm_jax.wafer.maps.answers import Answer, answers
from trm_jax.wafer.maps.maps import CLASSES, FAIL
from trm_jax.wafer.maps.npz import read_npz
from trm_jax.wafer.maps.validate import LARGEST_SIDE, Loaded, assemble

_JSON, _NPZ = "application/json", ("application/octet-stream", "application/x-npz", "application/zip")


class Limits(NamedTuple):
    """What a client may ask for; more is refused, so that the device never runs out of memory."""

    body: int = 8 * 2**20
    """Bytes of a request."""
    unpacked: int = 2**24
    """Bytes of all arrays of an .npz."""
    maps: int = 2000
    """Maps of a request."""
    waiting: int = 8
    """Requests that wait while one is answered."""
    seconds: float = 10
    """Time for a body to arrive."""


class Service(NamedTuple):
    """What the service answers with."""

    model: Model
    batch: int = 1
    threshold: float | None = None
    monitor: Monitor | None = None
    token: str = ""
    """Clients must send it as ``Authorization: Bearer``; empty for none."""
    limits: Limits = Limits()


class _Counts:
    """What /metrics tells."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter("trm_requests", "Requests by status", ["status"], registry=registry)
        names = ["decision", "prediction"]
        self.maps = prometheus_client.Counter("trm_maps", "Maps by decision and class", names, registry=registry)
        self.seconds = prometheus_client.Histogram("trm_seconds", "Time to answer a request", registry=registry)
        self.alarms = prometheus_client.Counter("trm_alarms", "Alarms of the monitor", registry=registry)
        self.inside = prometheus_client.Gauge("trm_requests_inside", "Requests being served", registry=registry)


class _Line:
    """Requests that wait to be answered one at a time; those that find it full are sent away."""

    def __init__(self, waiting: int, counts: _Counts):
        self.waiting, self.counts, self.inside, self.turn = waiting, counts, 0, asyncio.Lock()

    def __enter__(self) -> asyncio.Lock:
        if self.inside > self.waiting:
            raise HTTPException(503, "too many requests are waiting", headers={"Retry-After": "1"})
        self.inside += 1
        self.counts.inside.set(self.inside)
        return self.turn

    def __exit__(self, *_: object) -> None:
        self.inside -= 1
        self.counts.inside.set(self.inside)


def create_app(service: Service) -> FastAPI:
    """The HTTP application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    counts = _Counts()
    line = _Line(service.limits.waiting, counts)

    async def answered(request: Request) -> dict[str, Any]:
        _authorize(request, service.token)
        with line as turn:
            parse, body = _parser(request), await _body(request, service.limits)
            async with turn:
                with counts.seconds.time():
                    made, alarms = await run_in_threadpool(_answer, service, parse, body)
        for one in made:
            counts.maps.labels(one.decision, one.prediction).inc()
        counts.alarms.inc(len(alarms))
        return {"labels": CLASSES, "answers": [_plain(one) for one in made], "alarms": alarms}

    @app.post("/classify")
    async def classify_maps(request: Request) -> Response:
        try:
            text = json.dumps(await answered(request))
        except HTTPException as error:
            counts.requests.labels(str(error.status_code)).inc()
            raise
        counts.requests.labels("200").inc()
        return Response(text, media_type=_JSON)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": service.model.path.name, "provider": service.model.provider}

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        _authorize(request, service.token)
        text = prometheus_client.generate_latest(counts.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return app


def run(service: Service, host: str, port: int) -> None:
    """Serve until interrupted. Raises ValueError for a host that others can reach without a token."""
    check_host(host, service.token)
    uvicorn.run(create_app(service), host=host, port=port, log_level="warning", limit_concurrency=256)


def check_host(host: str, token: str) -> None:
    """Raise ValueError for a host that others can reach without a token, and for a token that no client can send."""
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ValueError("the token must be printable ASCII without blanks around it")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not token:
        raise ValueError(f"--host {host} can be reached by others: give --token, or set TRM_EDGE_TOKEN")


def _authorize(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").encode("latin-1")
    if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise HTTPException(401, "a valid token is needed", headers={"WWW-Authenticate": "Bearer"})


def _parser(request: Request) -> Callable[[bytes, Limits], Loaded]:
    """What reads the body; a kind must be declared, which keeps web pages from posting to a service beside them."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON and kind not in _NPZ:
        raise HTTPException(415, f"content type {kind!r} is neither {_JSON} nor {_NPZ[0]} (an .npz)")
    return _from_json if kind == _JSON else _from_npz


async def _body(request: Request, limits: Limits) -> bytes:
    """The body, refused as soon as it is too long, whatever its header says, or takes too much time."""
    declared = request.headers.get("content-length", "0")
    try:
        if not declared.isdecimal() or int(declared) <= limits.body:
            body = await asyncio.wait_for(_read(request, limits.body), limits.seconds)
            if len(body) <= limits.body:
                return body
    except asyncio.TimeoutError:  # the built-in TimeoutError only from Python 3.11 on
        raise HTTPException(408, f"the body took more than {limits.seconds:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body was not sent in full") from None
    raise HTTPException(413, f"the body is longer than {limits.body:,} bytes")


async def _read(request: Request, most: int) -> bytes:
    """The body, or its beginning that is longer than ``most`` bytes."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            break
    return bytes(body)


def _answer(service: Service, parse: Callable[[bytes, Limits], Loaded], body: bytes) -> tuple[list[Answer], list[str]]:
    """Answers for every map of a body, and the monitor's alarms."""
    try:
        loaded = parse(body, service.limits)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, str(error)) from None
    if len(loaded.wafers) + len(loaded.rejected) > service.limits.maps:
        raise HTTPException(413, f"more than {service.limits.maps:,} maps in a request")
    review = service.model.metadata.review_threshold
    try:
        made: Classified = classify(service.model, loaded.wafers, service.batch, service.threshold)
    except ValueError as error:
        raise HTTPException(500, str(error)) from None
    sentences = []
    if service.monitor is not None:
        sentences = service.monitor.add(loaded.wafers, made.probabilities, made.steps, review)
    return list(answers(loaded, made.probabilities, made.steps, review)), sentences


def _from_npz(body: bytes, limits: Limits) -> Loaded:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except DAMAGE as error:
        raise ValueError(f"the body is damaged or no .npz: {error}") from None
    if unpacked > limits.unpacked:
        raise HTTPException(413, f"the .npz unpacks to more than {limits.unpacked:,} bytes")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "body.npz"
        path.write_bytes(body)
        try:
            return read_npz(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "the body")) from None


def _from_json(body: bytes, _: Limits) -> Loaded:
    """Maps by their place in the list; what is no map becomes a rejected one."""
    try:
        entries = json.loads(body)["maps"]
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(
            f"the body is not JSON of the form {{'maps': [[[0, 1, 2, ...], ...], ...]}}: {error!r}"
        ) from None
    if not isinstance(entries, list) or not entries:
        raise ValueError("maps must be a list of maps")
    found = [_map(entry) for entry in entries]
    faults = {index: one for index, one in enumerate(found) if isinstance(one, str)}
    cells = [np.zeros((0, 0), np.uint8) if isinstance(one, str) else one for one in found]
    height, width = np.array([one.shape for one in cells]).T
    flat, row = np.concatenate([one.ravel() for one in cells]), np.arange(len(cells))
    return assemble(flat, height, width, {"row": row, "group": row}, "a request", faults)


def _map(entry: Any) -> np.ndarray | str:
    """The cells of a map (height, width) uint8, or the reason why it is none."""
    rows = entry if isinstance(entry, list) else []
    sides = {len(row) if isinstance(row, list) else -1 for row in rows}
    if len(sides) != 1 or min(sides) < 1 or max(len(rows), *sides) > LARGEST_SIDE:
        return f"is no list of rows of the same length, at most {LARGEST_SIDE}"
    strange = next((cell for row in rows for cell in row if type(cell) is not int or not 0 <= cell <= FAIL), None)
    return np.array(rows, np.uint8) if strange is None else f"has a cell {str(strange)[:20]!r}; cells are 0, 1 or 2"


def _plain(one: Answer) -> dict[str, Any]:
    """An answer without the entries that it does not have."""
    return {name: value for name, value in one._asdict().items() if value not in ("", None, ())}
