"""Answers over HTTP, for machines that send maps a few at a time: POST /classify, GET /health, GET /metrics, GET /docs.

Needs the extra ``serve`` (fastapi, uvicorn, prometheus-client). A body is JSON, ``{"maps": [[[0, 1, 2, ...], ...]]}``,
or an .npz in the layout of the data sets; pickles are never read.
"""

import asyncio
import hmac
import ipaddress
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import prometheus_client
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

import trm_jax
from trm_jax.edge.bodies import Limits, read_json, read_npz_body
from trm_jax.edge.classify import classify
from trm_jax.edge.connections import Protocol
from trm_jax.edge.monitor import Monitor
from trm_jax.edge.package import Model
from trm_jax.support.archives import TooLarge
from trm_jax.wafer.maps.answer_page import with_shared
from trm_jax.wafer.maps.answers import Answer, answers
from trm_jax.wafer.maps.plausible import inspect
from trm_jax.wafer.maps.unlike import doubted, known
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.maps.wafers import CLASSES

PAGE = Path(__file__).with_name("templates") / "drop.html"
"""What `/` shows: a place to drop maps on."""
DOCS = """\
Classify wafer maps over HTTP (trm_jax {version})

POST /classify   JSON {{"maps": [[[0, 1, 2, ...], ...], ...]}} as application/json, or an .npz as application/x-npz.
                 A map is a list of rows; 0 is no die, 1 a passing die, 2 a failing die.
                 Answers: {{"labels": [...], "answers": [{{"row", "decision", "prediction", "confidence", "steps",
                 "probabilities", "reason"}}, ...], "alarms": [...]}}; decision is auto, review or rejected.
                 400 for a body that is no maps, 401 without the token, 408 and 413 for one too slow or too large,
                 415 for another content type, 503 with Retry-After while others wait.
GET  /health     version, model and thresholds. GET /metrics: counters for Prometheus. GET /: a page to drop maps on.

    curl -H 'Content-Type: application/json' -H "Authorization: Bearer $TOKEN" -d @maps.json HOST/classify
"""
_BACKLOG = 512
_JSON, _NPZ = "application/json", ("application/octet-stream", "application/x-npz", "application/zip")


class Service(NamedTuple):
    """What the service answers with."""

    model: Model
    batch: int = 1
    threshold: float | None = None
    monitor: Monitor | None = None
    token: str = ""
    """Clients must send it as ``Authorization: Bearer``; empty for none, and then only local clients are answered."""
    limits: Limits = Limits()
    codes: str = ""
    """How the cells of all bodies are coded, as `parse_codes` takes it."""


class ServerMetrics:
    """What /metrics reports."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter("trm_requests", "Requests by status", ["status"], registry=registry)
        names = ["decision", "prediction"]
        self.maps = prometheus_client.Counter("trm_maps", "Maps by decision and class", names, registry=registry)
        self.seconds = prometheus_client.Histogram("trm_seconds", "Time to answer a request", registry=registry)
        self.alarms = prometheus_client.Counter("trm_alarms", "Alarms of the monitor", registry=registry)
        self.log_errors = prometheus_client.Counter("trm_log_errors", "Failed writes of its log", registry=registry)
        self.inside = prometheus_client.Gauge("trm_requests_inside", "Requests being served", registry=registry)


class RequestQueue:
    """Requests that wait to be answered one at a time; those that find it full are sent away, but not at once.

    A client that ignores Retry-After would otherwise keep the service busy with refusing it.
    """

    def __init__(self, limits: Limits, metrics: ServerMetrics):
        self.limits, self.metrics, self.inside, self.turn = limits, metrics, 0, asyncio.Lock()

    async def __aenter__(self) -> asyncio.Lock:
        if self.inside > self.limits.waiting:
            await asyncio.sleep(self.limits.retry)
            raise HTTPException(503, "too many requests are waiting", headers={"Retry-After": "1"})
        self.inside += 1
        self.metrics.inside.set(self.inside)
        return self.turn

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1
        self.metrics.inside.set(self.inside)


class Answering:
    """One service at work: its queue, its metrics, and the answers to each kind of request."""

    def __init__(self, service: Service):
        self.service, self.metrics = service, ServerMetrics()
        self.queue = RequestQueue(service.limits, self.metrics)

    async def classify(self, request: Request) -> Response:
        """Answers to the maps of a body as JSON; every request is counted by its status."""
        status = 500  # of any error that is not an HTTPException
        try:
            text = json.dumps(await self._answers(request))
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self.metrics.requests.labels(str(status)).inc()
        return Response(text, media_type=_JSON)

    async def _answers(self, request: Request) -> dict[str, Any]:
        service, metrics = self.service, self.metrics
        _check_client(request, service.token)
        async with self.queue as turn:
            parse, body = _parser(request), await _body(request, service.limits)
            async with turn:
                with metrics.seconds.time():
                    lines, alarms = await run_in_threadpool(_answer, service, parse, body)
        for line in lines:
            metrics.maps.labels(line.decision, line.prediction).inc()
        metrics.alarms.inc(len(alarms))
        if service.monitor is not None and service.monitor.error:
            metrics.log_errors.inc()
            print(f"error: {service.monitor.error}", file=sys.stderr)
        return {"labels": CLASSES, "answers": [_present(line) for line in lines], "alarms": alarms}

    async def health(self, request: Request) -> dict[str, Any]:
        _check_host_header(request, self.service.token)
        metadata = self.service.model.metadata
        return {
            "status": "ok",
            "version": trm_jax.__version__,
            "model": self.service.model.path.name,
            "commit": metadata.provenance.get("commit", ""),
            "provider": self.service.model.provider,
            "review_threshold": metadata.review_threshold,
            "halting_threshold": self.service.threshold,
        }

    async def page(self, request: Request) -> Response:
        _check_host_header(request, self.service.token)
        return Response(with_shared(PAGE), media_type="text/html")

    async def docs(self, request: Request) -> Response:
        _check_host_header(request, self.service.token)
        return Response(DOCS.format(version=trm_jax.__version__), media_type="text/plain")

    async def metrics_text(self, request: Request) -> Response:
        _check_client(request, self.service.token)
        text = prometheus_client.generate_latest(self.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def create_app(service: Service) -> FastAPI:
    """The HTTP application."""
    app = FastAPI(title="Wafer maps", description=__doc__, docs_url=None, redoc_url=None, openapi_url=None)
    answering = Answering(service)
    app.post("/classify")(answering.classify)
    app.get("/health")(answering.health)
    app.get("/")(answering.page)
    app.get("/docs")(answering.docs)
    app.get("/metrics")(answering.metrics_text)
    return app


def bind(host: str, port: int, token: str) -> socket.socket:
    """A socket of this address, a free port for 0. Raises ValueError where others could reach it without a token."""
    check_host(host, token)
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be 0 to 65535, got {port}")
    listener = None
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = min(addresses, key=lambda info: info[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ValueError(f"cannot listen on {host}, port {port}: {error}") from None


def run(service: Service, listener: socket.socket) -> None:
    """Serve until interrupted, and say where."""
    listener.listen(_BACKLOG)
    host, port = listener.getsockname()[:2]
    print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr)
    config = uvicorn.Config(create_app(service), log_level="warning", http=Protocol, ws="none", timeout_keep_alive=10)
    uvicorn.Server(config).run(sockets=[listener])


def check_host(host: str, token: str) -> None:
    """Raise ValueError for a host that others can reach without a token, and for a token that no client can send."""
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ValueError("the token must be printable ASCII without blanks around it")
    if not _is_local(host) and not token:
        raise ValueError(f"--host {host} can be reached by others: give --token, or set TRM_EDGE_TOKEN")


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_host_header(request: Request, token: str) -> None:
    """Without a token only this machine is answered by its own names: a web page could point its own at it."""
    host = request.headers.get("host", "").strip().lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if not token and not _is_local(name):
        raise HTTPException(421, "without a token only localhost is answered")


def _check_client(request: Request, token: str) -> None:
    _check_host_header(request, token)
    credentials = request.headers.get("authorization", "").encode("latin-1")
    if token and not hmac.compare_digest(credentials, f"Bearer {token}".encode()):
        raise HTTPException(401, "a valid token is needed", headers={"WWW-Authenticate": "Bearer"})


def _parser(request: Request) -> Callable[[bytes, Limits], ReadResult]:
    """What reads the body; a kind must be declared, which keeps web pages from posting to a service beside them."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON and kind not in _NPZ:
        raise HTTPException(415, f"content type {kind[:100]!r} is neither {_JSON} nor {_NPZ[0]} (an .npz)")
    return read_json if kind == _JSON else read_npz_body


async def _body(request: Request, limits: Limits) -> bytes:
    """The body, refused as soon as it is too long, whatever its header says, or takes too much time."""
    declared = request.headers.get("content-length", "0")
    try:
        if not (declared.isascii() and declared.isdecimal()) or int(declared[:20]) <= limits.body:
            body = await asyncio.wait_for(_read(request, limits.body), limits.seconds)
            if len(body) <= limits.body:
                return body
    except asyncio.TimeoutError:  # the built-in TimeoutError only from Python 3.11 on
        raise HTTPException(408, f"the body took more than {limits.seconds:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body was not sent in full") from None
    raise HTTPException(413, f"the body is longer than {limits.body:,} bytes")


async def _read(request: Request, max_bytes: int) -> bytes:
    """The body, or its beginning that is longer than ``max_bytes``."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            break
    return bytes(body)


def _answer(
    service: Service, parse: Callable[[bytes, Limits], ReadResult], body: bytes
) -> tuple[list[Answer], list[str]]:
    """Answers for every map of a body, and the monitor's alarms."""
    try:
        read, doubts, _ = inspect(parse(body, service.limits), service.codes, service.model.metadata.dies)
    except TooLarge as error:
        raise HTTPException(413, str(error)) from None
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    review = service.model.metadata.review_threshold
    try:
        classified = classify(service.model, read.wafers, service.batch, service.threshold)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise HTTPException(500, "the model cannot answer; the log of the service says why") from None
    alarms = []
    if service.monitor is not None:
        alarms = service.monitor.add(read.wafers, classified.probabilities, classified.steps, review)
    doubts, unlike = doubted(doubts, classified.unlike), known(classified.unlike)
    limits = service.model.metadata.thresholds
    return list(answers(read, classified.probabilities, classified.steps, limits, doubts, unlike)), alarms


def _present(answer: Answer) -> dict[str, Any]:
    """An answer without the entries that it does not have."""
    return {name: value for name, value in answer._asdict().items() if value not in ("", None, ())}
