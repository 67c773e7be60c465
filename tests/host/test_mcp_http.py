"""The server over HTTP: on the loopback only, for requests that name it so."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import anyio
import pytest
from mcp import Client

START_LIMIT_S = 120


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    root = tmp_path_factory.mktemp("http")
    words = ["mcp", "--http", str(number), "--root", str(root), "--ledger", str(root / "l.sqlite")]
    process = subprocess.Popen([sys.executable, "-m", "epitaxy.cli", *words])
    limit_s = time.monotonic() + START_LIMIT_S
    while not _open("127.0.0.1", number):
        assert process.poll() is None
        assert time.monotonic() < limit_s
        time.sleep(0.1)
    yield number
    process.terminate()
    process.wait(30)


def _open(host, port):
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((host, port)) == 0


def _post(port, **headers):
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    known = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/mcp", body, known | headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_client_on_this_machine_is_served(port):
    async def work():
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            return (await client.call_tool("list_problems", {})).structured_content

    assert "none is offered" in anyio.run(work)["note"]


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=str
)
def test_other_hosts_and_origins_are_refused(port, headers):
    assert _post(port, **headers) in (403, 421)


def test_no_other_address_is_listened_on(port):
    own = socket.gethostbyname(socket.gethostname())
    addresses = {own, "127.0.0.2"} - {"127.0.0.1"}
    assert not [a for a in addresses if _open(a, port)]
