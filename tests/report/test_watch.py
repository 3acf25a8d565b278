"""A sweep that is watched: what is new, on this machine only, until it is ended."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded import read_data
from made_up_plan import write_plan
from made_up_sweep import write_cell

from dsel.error import InputError
from dsel.report import watch as watching
from dsel.report.__main__ import main
from dsel.report.serve import HOST, Server, serve
from dsel.report.watch import Watch

CELLS = ["arm=cds,budget.fraction=0.3/seed=0", "arm=random,budget.fraction=0.3/seed=0"]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    found = Watch(tmp_path / "sweep")
    found.look()
    return found


@pytest.fixture
def server(watch: Watch) -> Iterator[Server]:
    with Server(watch, 0) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        watch.stopped.set()
        found.shutdown()
        thread.join()


def ask(server: Server, path: str, host: str | None = None) -> tuple[int, str]:
    """Status and body."""
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_before_the_first_result_the_page_says_so(watch: Watch) -> None:
    page = watch.page.decode()
    assert "No result to show yet" in page
    assert f'data-version="{watch.version}"' in page
    assert "EventSource" in page


def test_a_result_makes_another_page_and_nothing_new_makes_none(watch: Watch) -> None:
    first = watch.version
    write_cell(watch.folder, "cds", 0.3, 0)
    watch.look()
    page = watch.page
    assert watch.version != first
    assert read_data(page.decode())["cells"]["label"] == ["cds"]
    assert "connect-src &#39;self&#39;" in page.decode() or "connect-src 'self'" in page.decode()
    watch.look()
    assert watch.page is page


def test_the_file_on_disk_is_not_touched(watch: Watch) -> None:
    write_cell(watch.folder, "cds", 0.3, 0)
    watch.look()
    assert not list(watch.folder.glob("report.html"))


def test_the_state_of_the_sweep_is_told_where_there_is_a_plan(watch: Watch) -> None:
    write_cell(watch.folder, "cds", 0.3, 0)
    watch.look()
    assert watch.status == ""
    write_plan(watch.folder, CELLS)
    (watch.folder / CELLS[1]).mkdir(parents=True)
    (watch.folder / CELLS[1] / "failed.json").write_text(json.dumps({"error": "out of memory"}))
    watch.look()
    status = json.loads(watch.status)
    assert status["counts"] == {"done": 1, "failed": 1}
    assert [(cell["state"], cell["cause"]) for cell in status["cells"]] == [("failed", "out of memory")]


def test_events_are_what_is_new_only(watch: Watch) -> None:
    events = watch.events(patience=0.01)
    assert next(events) == [("page", watch.version)]
    assert next(events) == []
    write_plan(watch.folder, CELLS)
    watch.look()
    assert next(events) == [("status", watch.status)]
    watch.stopped.set()
    assert list(events) == []


def test_the_folder_is_looked_at_again_and_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0.02)
    events, first = watch.events(), watch.version
    next(events)
    with watch.going():
        write_cell(watch.folder, "cds", 0.3, 0)
        assert next(events)[0][0] == "page"
    assert watch.version != first


def test_the_page_is_for_this_machine_only(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/")[0] == 200
    assert ask(server, "/", f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "/", f"rebound.example:{server.server_port}")[0] == 403
    assert ask(server, "/../../etc/passwd")[0] == 404


def test_events_are_sent_as_they_come(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=10)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert [answer.readline().decode().strip() for _ in range(2)] == ["event: page", f"data: {server.watch.version}"]
    connection.close()


def test_a_port_that_is_taken_is_an_error_of_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot listen on port {server.server_port} .* give another --port") as caught:
        serve(tmp_path, server.server_port)
    assert "\n" not in str(caught.value)
    assert main([str(tmp_path), "--watch", "--port", "70000"]) == 1


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsel.report", str(tmp_path / "sweep"), "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "Ctrl-C ends it" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
