"""The HTTP service: right answers, and every limit holds before it costs anything."""

import asyncio
import io
import json
import pickle
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import edge_models
import httpx
import numpy as np
import pytest

import trm_jax
from trm_jax.edge import server
from trm_jax.edge.__main__ import main
from trm_jax.edge.bodies import Limits
from trm_jax.edge.package import open_model
from trm_jax.edge.server import Service, check_host, create_app
from trm_jax.support import archives
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

COUNT = 9
NPZ = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = edge_models.save(tmp_path_factory.mktemp("edge") / "model.onnx", edge_models.plain())
    return Service(open_model(path), batch=4)


@pytest.fixture(scope="module")
def wafers() -> Wafers:
    return synthetic_wafers(COUNT, seed=3)


def npz(wafers: Wafers, **more: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, flat=wafers.flat, height=wafers.height, width=wafers.width, **more)  # type: ignore[arg-type]
    return file.getvalue()


def as_lists(wafers: Wafers) -> list[Any]:
    return [wafers.map(index).tolist() for index in range(len(wafers))]


def request(service: Service, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to a new application."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def post(service: Service, **options: Any) -> httpx.Response:
    return request(service, "POST", "/classify", **options)


def test_json_and_npz_give_the_answers_of_the_model(service: Service, wafers: Wafers) -> None:
    every = edge_models.expected(wafers)[:, -1]
    for given in ({"json": {"maps": as_lists(wafers)}}, {"content": npz(wafers), "headers": NPZ}):
        response = post(service, **given)
        body = response.json()
        assert response.status_code == 200 and body["labels"] == list(CLASSES) and body["alarms"] == []
        assert [one["row"] for one in body["answers"]] == list(range(COUNT))
        found = np.array([one["probabilities"] for one in body["answers"]])
        np.testing.assert_allclose(found, every, atol=1e-5)
        for one, row in zip(body["answers"], every, strict=True):
            assert one["prediction"] == CLASSES[row.argmax()] and one["steps"] == 3
            assert one["decision"] == ("review" if row.max() < 0.5 or "reason" in one else "auto")
        # Nine maps are too few to know that the one that is nearly full is not of swapped codes.
        assert [one["row"] for one in body["answers"] if "are pass and fail swapped?" in one.get("reason", "")] == [3]


def test_a_source_in_other_codes_is_refused_unless_the_service_knows_them(service: Service, wafers: Wafers) -> None:
    maps = [np.array([0, 2, 1])[wafers.map(0)].tolist() for _ in range(10)]
    response = post(service, json={"maps": maps})
    assert response.status_code == 400 and "try --codes swapped" in response.json()["detail"]
    answers = post(service._replace(codes="swapped"), json={"maps": maps}).json()["answers"]
    assert answers[3] == post(service, json={"maps": [wafers.map(0).tolist()]}).json()["answers"][0] | {"row": 3}


def test_broken_maps_are_rejected_one_by_one(service: Service, wafers: Wafers) -> None:
    good = wafers.map(0).tolist()
    strange = [[list(row) for row in good] for _ in range(4)]
    strange[0][3][3], strange[1][3][3], strange[2][3][3] = 3, -1, 1.5
    strange[3][3] = strange[3][3][:-1]
    maps = [good, *strange, 7, [], [[1] * 5], [[True] * 5] * 5, [[0] * 6] * 6, [[10**30] * 6] * 6, good]
    answers = post(service, json={"maps": maps}).json()["answers"]
    assert [one["decision"] == "rejected" for one in answers] == [False] + [True] * 10 + [False]
    assert answers[0]["probabilities"] == answers[-1]["probabilities"] and "probabilities" not in answers[1]
    assert answers[1]["reason"] == "has a cell 3; cells are 0, 1 or 2" and "-1" in answers[2]["reason"]
    assert "same length" in answers[4]["reason"] and answers[9]["reason"] == "has no die"
    assert answers[7]["reason"].startswith("is 1 x 5")
    only = post(service, json={"maps": [7]})
    assert only.status_code == 200 and [one["decision"] for one in only.json()["answers"]] == ["rejected"]


@pytest.mark.parametrize("cell", [None, "1", 1.0, [1], {"a": 1}, 10**400, float("nan")])
def test_a_cell_of_any_kind_is_a_reason_and_not_an_error(service: Service, wafers: Wafers, cell: Any) -> None:
    maps = as_lists(wafers)[:2]
    maps[0][2][2] = cell
    response = post(service, content=json.dumps({"maps": maps}), headers={"content-type": "application/json"})
    answers = response.json()["answers"]
    assert response.status_code == 200 and [one["decision"] == "rejected" for one in answers] == [True, False]
    assert "has a cell " in answers[0]["reason"] and len(answers[0]["reason"]) < 80


def test_names_of_other_classes_are_no_reason_to_refuse_maps(service: Service, wafers: Wafers) -> None:
    label, classes = np.arange(COUNT) % 2, np.array(["Edge-Local", "C7"])
    answers = post(service, content=npz(wafers, label=label, classes=classes), headers=NPZ).json()["answers"]
    assert [one.get("label", "") for one in answers] == ["Edge-Loc", ""] * 4 + ["Edge-Loc"]


def test_pages_say_what_answers_and_how_to_ask(service: Service) -> None:
    health = request(service, "GET", "/health").json()
    assert health["version"] == trm_jax.__version__ and health["commit"] == "none"
    assert (health["review_threshold"], health["halting_threshold"]) == (0.5, None)
    page, docs = request(service, "GET", "/"), request(service, "GET", "/docs")
    assert page.status_code == docs.status_code == 200 and "Drop maps here" in page.text and "{{" not in page.text
    assert "http" not in page.text and '{"maps": [[[0, 1, 2, ...], ...], ...]}' in docs.text
    for path in ("/", "/docs"):
        assert request(service, "GET", path, headers={"host": "evil.example"}).status_code == 421


def test_one_map_instead_of_a_list_is_told_so(service: Service, wafers: Wafers) -> None:
    response = post(service, json={"maps": as_lists(wafers)[0]})
    assert response.status_code == 400 and "these are the rows of one" in response.json()["detail"]


def test_small_integers_and_odd_characters_in_an_npz(service: Service, wafers: Wafers) -> None:
    good = npz(wafers, row=np.arange(COUNT, dtype=np.int8))
    assert post(service, content=good, headers=NPZ).status_code == 200
    words = np.full(1, 0x110000, np.uint32).view("<U1")
    for content in (npz(wafers, label=np.zeros(COUNT, int), classes=words), npz(wafers, row=np.full(COUNT, -1))):
        response = post(service, content=content, headers=NPZ)
        assert response.status_code == 400 and response.json()["detail"].startswith("the body is damaged")


@pytest.mark.parametrize("kind", ["lists", "objects", "maps in an npz"])
def test_millions_of_nothing_are_counted_before_anything_is_built(service: Service, kind: str) -> None:
    """They took 2.8 GB and half a minute. Python's own lists of 8 MB of JSON are all that is allowed."""
    content, headers = b'{"maps": [' + b"[]," * 2_790_000 + b"[]]}", {"content-type": "application/json"}
    if kind == "objects":
        content = content.replace(b"[],", b"{},")
    if kind == "maps in an npz":
        file, none = io.BytesIO(), np.zeros(8_000_000, np.uint8)
        np.savez_compressed(file, flat=np.zeros(0, np.uint8), height=none, width=none)
        content, headers = file.getvalue(), NPZ
    tracemalloc.start()
    try:
        response = post(service, content=content, headers=headers)
        assert tracemalloc.get_traced_memory()[1] < 5e7
    finally:
        tracemalloc.stop()
    assert response.status_code == 413 and response.json()["detail"] == "the body: more than 2,000 maps"


class Stop:
    """Pickled, it would write a file when read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_bodies_that_are_nothing_of_the_kind(service: Service, wafers: Wafers, tmp_path: Path) -> None:
    marker, pickled = tmp_path / "executed", io.BytesIO()
    objects = np.empty(1, object)
    objects[0] = Stop(marker)
    np.savez(pickled, flat=objects, height=np.array([1]), width=np.array([1]))
    text = {"content-type": "application/json"}
    for content, headers, status in [
        (b"", text, 400),
        (b"[]", text, 400),
        (b'{"maps": []}', text, 400),
        (b'{"maps": 3}', text, 400),
        (b'{"map": []}', text, 400),
        (b"3", text, 400),
        ('{"maps": [[[1, 1]]]}'.encode("utf-16"), text, 400),
        (b"\xff" * 1000, text, 400),
        (b'{"maps": [' + b"9" * 5000 + b"]}", text, 400),
        (b"[" * 100_000, text, 400),
        (b"\xff\xfe\x00", text, 400),
        (b"PK\x03\x04", NPZ, 400),
        (npz(wafers)[:-100], NPZ, 400),
        (pickle.dumps(Stop(marker)), NPZ, 400),
        (pickled.getvalue(), NPZ, 400),
        (b'{"maps": []}', {"content-type": "text/plain"}, 415),
        (b'{"maps": []}', {}, 415),
        (pickle.dumps(Stop(marker)), {"content-type": "application/x-pickle"}, 415),
    ]:
        response = post(service, content=content, headers=headers)
        assert response.status_code == status and "\n" not in response.json()["detail"], response.text
        assert "/tmp" not in response.text and "Error" not in response.text and len(response.text) < 400
    assert not marker.exists()


def test_a_body_that_is_too_long_is_not_read_to_its_end(service: Service, wafers: Wafers) -> None:
    small, sent = service._replace(limits=Limits(body=10_000)), []

    async def endless() -> AsyncIterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield b" " * 1000

    response = post(small, content=endless(), headers={"content-type": "application/json"})
    assert response.status_code == 413 and len(sent) < 1000
    declared = post(small, content=b" " * 20_000, headers={"content-type": "application/json"})
    assert declared.status_code == 413 and declared.json()["detail"] == "the body is longer than 10,000 bytes"
    few = service._replace(limits=Limits(maps=COUNT - 1))
    for given in ({"content": npz(wafers), "headers": NPZ}, {"json": {"maps": as_lists(wafers)}}):
        response = post(few, **given)
        assert response.status_code == 413 and response.json()["detail"] == "the body: more than 8 maps"


def test_an_npz_that_would_fill_the_memory_is_not_unpacked(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives.ArrayArchive, "__getitem__", lambda *_: pytest.fail("it was unpacked"))
    file, count = io.BytesIO(), 20_000
    sides = np.full(count, 30, np.int16)
    np.savez_compressed(file, flat=np.ones(900 * count, np.uint8), height=sides, width=sides)
    response = post(service, content=file.getvalue(), headers=NPZ)
    assert len(file.getvalue()) < 100_000 and response.status_code == 413
    assert response.json()["detail"] == f"the body: it would unpack from {len(file.getvalue()):,} bytes to 18,080,384"


def test_a_body_that_does_not_arrive(service: Service) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    hasty = service._replace(limits=Limits(seconds=0.05))
    assert post(hasty, content=slow(), headers={"content-type": "application/json"}).status_code == 408


def test_too_many_requests_are_sent_away_and_the_others_answered(
    service: Service, wafers: Wafers, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, real = threading.Event(), server.classify
    running, most = [0], [0]

    def slow(*given: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        release.wait(10)
        running[0] -= 1
        return real(*given)

    monkeypatch.setattr(server, "classify", slow)

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(service._replace(limits=Limits(waiting=2, retry=0))))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body = {"maps": as_lists(wafers)[:1]}
            sent = [asyncio.create_task(client.post("/classify", json=body)) for _ in range(5)]
            while sum(task.done() for task in sent) < 2:
                await asyncio.sleep(0.01)
            assert (await client.get("/health")).json()["status"] == "ok"  # also when busy
            inside = (await client.get("/metrics")).text
            assert "trm_requests_inside 3.0" in inside
            release.set()
            answered = [await task for task in sent]
            assert (await client.post("/classify", json=body)).status_code == 200
            return answered

    answered = asyncio.run(send())
    assert sorted(one.status_code for one in answered) == [200, 200, 200, 503, 503] and most == [1]
    refused = [one for one in answered if one.status_code == 503]
    assert all(one.headers["retry-after"] == "1" for one in refused)


def test_metrics_count_requests_maps_and_time(service: Service, wafers: Wafers) -> None:
    async def send() -> str:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await client.post("/classify", json={"maps": [*as_lists(wafers), 7]})
            await client.post("/classify", json={})
            return (await client.get("/metrics")).text

    lines = asyncio.run(send()).splitlines()
    assert 'trm_requests_total{status="200"} 1.0' in lines and 'trm_requests_total{status="400"} 1.0' in lines
    counts = [float(line.split()[-1]) for line in lines if line.startswith("trm_maps_total{")]
    assert sum(counts) == COUNT + 1 and 'trm_maps_total{decision="rejected",prediction=""} 1.0' in lines
    assert "trm_seconds_count 2.0" in lines


def test_errors_of_the_program_are_counted_and_say_nothing_of_it(
    service: Service, wafers: Wafers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    async def send() -> tuple[httpx.Response, str]:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body = {"maps": as_lists(wafers)}
            return await client.post("/classify", json=body), (await client.get("/metrics")).text

    for error in (ValueError("/secret/path is NaN"), KeyError("secret")):
        monkeypatch.setattr(server, "classify", lambda *_, error=error: (_ for _ in ()).throw(error))
        response, metrics = asyncio.run(send())
        assert response.status_code == 500 and "secret" not in response.text and "Error:" not in response.text
        assert 'trm_requests_total{status="500"} 1.0' in metrics.splitlines()
    assert "/secret/path is NaN" in capsys.readouterr().err  # the log of the service has it


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::2]", "", "192.168.1.1"]
)
def test_without_a_token_only_names_of_this_machine_are_answered(service: Service, wafers: Wafers, host: str) -> None:
    """A web page can have its own name point at 127.0.0.1, and then read what a service there answers."""
    body = {"maps": as_lists(wafers)[:1]}
    for method, path in (("POST", "/classify"), ("GET", "/health"), ("GET", "/metrics")):
        response = request(service, method, path, headers={"host": host}, json=body if method == "POST" else None)
        assert response.status_code == 421 and "labels" not in response.text
    for name in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "127.9.9.9"):
        assert request(service, "GET", "/health", headers={"host": name}).status_code == 200
    guarded = service._replace(token="secret")
    headers = {"host": host, "authorization": "Bearer secret"}
    assert post(guarded, json=body, headers=headers).status_code == 200


def test_a_token_is_needed_where_there_is_one(service: Service, wafers: Wafers) -> None:
    closed, body = service._replace(token="secret"), {"maps": as_lists(wafers)[:1]}
    for header in (None, "secret", "Bearer secre", "Bearer secret2", "bearer secret", "Bearer s\u00e9cret"):
        headers = {} if header is None else {"authorization": header.encode("latin-1")}
        response = post(closed, json=body, headers=headers)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
        assert request(closed, "GET", "/metrics", headers=headers).status_code == 401
    assert post(closed, json=body, headers={"authorization": "Bearer secret"}).status_code == 200
    assert request(closed, "GET", "/health").status_code == 200
    assert request(closed, "GET", "/docs").status_code == 200  # it says nothing that is not public


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "device.local", "127.0.0.1.example.com", ""])
def test_a_host_that_others_can_reach_needs_a_token(
    host: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="can be reached by others: give --token"):
        check_host(host, "")
    check_host(host, "secret")
    monkeypatch.delenv("TRM_EDGE_TOKEN", raising=False)
    with pytest.raises(SystemExit, match=r"error: .*TRM_EDGE_TOKEN"):
        main(["serve", "--model", str(service.model.path), "--host", host])


def test_loopback_needs_none_and_a_token_must_be_one_that_can_be_sent() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        check_host(host, "")
    for token in ("s\u00e9cret", "a\nb", " a"):
        with pytest.raises(ValueError, match="printable ASCII"):
            check_host("127.0.0.1", token)


def test_the_command_serves_with_the_token_of_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(server, "run", lambda *given: started.append((given[0], given[1].getsockname())))
    monkeypatch.setenv("TRM_EDGE_TOKEN", "secret")
    line = ["serve", "--model", str(service.model.path), "--port", "0", "--batch", "2"]
    main([*line, "--host", "0.0.0.0"])
    assert started[0][0].token == "secret" and started[0][1][0] == "0.0.0.0" and started[0][1][1] > 0
    assert "runs on CPUExecutionProvider" in capsys.readouterr().err
    monkeypatch.delenv("TRM_EDGE_TOKEN")
    main(line)
    assert started[1][1][0] == "127.0.0.1"


def test_the_monitor_sees_what_is_served(service: Service, wafers: Wafers) -> None:
    class Watch:
        error = ""

        def add(self, wafers: Wafers, *given: Any) -> list[str]:
            return [f"{len(wafers)} seen"]

    response = post(service._replace(monitor=Watch()), json={"maps": as_lists(wafers)})  # type: ignore[arg-type]
    assert response.json()["alarms"] == ["9 seen"]
    Watch.error = "the monitor cannot write"
    response = post(service._replace(monitor=Watch()), json={"maps": as_lists(wafers)})  # type: ignore[arg-type]
    assert response.json()["alarms"] == ["9 seen"] and len(response.json()["answers"]) == COUNT
    assert json.loads(response.text)["answers"]
