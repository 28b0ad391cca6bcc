"""The guard: which hosts the tools reach, in whatever spelling, and that nothing slips between check and connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from engine.errors import InputInvalid, ToolError, ToolRejected, ToolUnavailable
from engine.tools.calls import Call
from engine.tools.http.client import HttpTools
from engine.tools.http.guard import addresses, hosts, public
from tests.unit.tools.entries import entry
from tests.unit.tools.names import forbidden, resolving
from tests.web import Web, web_server

CALL = Call(UUID(int=7), "fetch", "run:fetch", fence=42, attempt=1, timeout=timedelta(seconds=10))
UNREACHABLE = [
    "http://127.0.0.1/",
    "http://127.255.255.254:8080/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://0.0.0.0/",
    "http://255.255.255.255/",
    "http://224.0.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://127.1/",
    "http://①②⑦.⓪.⓪.①/",
    "https://[::1]/",
    "http://[::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%lo]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://[2002:7f00:1::]/",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    """One server for the module; each test looks at what it asked itself."""
    with web_server() as web:
        yield web


@pytest.fixture
def web(server: Web) -> Web:
    """The server, with nothing asked yet."""
    server.asked.clear()
    return server


@pytest.mark.parametrize("url", UNREACHABLE)
async def test_local_addresses_are_never_connected_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback, private, link-local and reserved ones, in every spelling, before any connection."""
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    tools = HttpTools([])
    with pytest.raises(ToolError) as refused:
        await tools.request({"url": url}, CALL)
    await tools.close()
    assert isinstance(refused.value, ToolRejected) or any(
        reason in str(refused.value) for reason in ("cannot be resolved", "is not a URL")
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "3fff::1",
    ],
)
async def test_names_are_judged_by_their_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public name that resolves to a private address is refused."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving({"innocent.example": address}))
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", forbidden)
    tools = HttpTools([])
    with pytest.raises(ToolRejected, match=r"innocent\.example is a private or local address"):
        await tools.request({"url": "https://innocent.example/x?token=1"}, CALL)
    await tools.close()


async def test_the_checked_address_is_the_one_connected_to(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is asked for once, so a second answer cannot change the target; the server sees the name."""
    asked: list[str] = []
    names = resolving({"once.example": "127.0.0.1"}, asked)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    tools = HttpTools(["once.example"])
    port = web.url.rsplit(":", 1)[1]
    await tools.request({"url": f"http://once.example:{port}/status/200"}, CALL)
    await tools.close()
    assert [name for name in asked if name != "127.0.0.1"] == ["once.example"]
    assert web.asked[0].headers["host"] == [f"once.example:{port}"]


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::8.8.8.8"])
async def test_public_addresses_may_be_reached(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule refuses what is local and nothing else."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving({"public.example": address}))
    assert await addresses("public.example", 80, hosts([])) == [address]


@pytest.mark.parametrize("userinfo", ["user@", "user:swordfish@", ":swordfish@", "@"])
async def test_userinfo_is_refused(web: Web, userinfo: str) -> None:
    """Credentials in a URL would be stored and logged; the refusal does not repeat them."""
    tools = HttpTools(["127.0.0.1"])
    with pytest.raises(InputInvalid, match="credentials") as refused:
        await tools.request({"url": web.url.replace("//", f"//{userinfo}") + "/echo"}, CALL)
    assert "swordfish" not in str(refused.value)
    assert not web.asked


@pytest.mark.parametrize(
    "answers",
    [
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["2001:4860:4860::8888", "fe80::1%eth0"],
        ["8.8.8.8", "::ffff:169.254.169.254"],
    ],
)
async def test_one_private_address_refuses_the_name(
    answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several addresses every one is judged: which is connected to must not be a matter of luck."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving({"mixed.example": answers}))
    with pytest.raises(ToolRejected, match="private or local"):
        await addresses("mixed.example", 443, hosts([]))


async def test_a_second_answer_is_judged_again(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was allowed to be asked once is not trusted for a new connection (DNS rebinding)."""
    names: dict[str, str | list[str]] = {"turns.example": "127.0.0.1"}
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(names))
    open_, closed = HttpTools(["turns.example"]), HttpTools([])
    url = f"http://turns.example:{web.url.rsplit(':', 1)[1]}/status/200"
    await open_.request({"url": url}, CALL)
    with pytest.raises(ToolRejected):
        await closed.request({"url": url}, CALL)
    await open_.close()
    await closed.close()


async def test_a_permitted_connection_serves_nobody_else(web: Web) -> None:
    """An idle connection that one entry may have is not there for a call that may not."""
    tools = HttpTools([])
    permitted = entry(f"{web.url}/status/200", allow_hosts=["127.0.0.1"])
    await tools.call(permitted, {}, CALL)
    with pytest.raises(ToolRejected):
        await tools.call(entry(f"{web.url}/status/200"), {}, CALL)
    assert len(web.asked) == 1
    await tools.close()


@pytest.mark.parametrize(
    ("allowed", "reached"),
    [
        ("127.0.0.1", True),
        (" 127.0.0.1. ", True),
        ("127.0.0.1:{port}", True),
        ("127.0.0.1:1", False),
        ("127.0.0.2", False),
    ],
)
async def test_hosts_are_allowed_with_or_without_their_port(web: Web, allowed: str, *, reached: bool) -> None:
    """`name:port` allows that port alone."""
    tools = HttpTools([allowed.replace("{port}", web.url.rsplit(":", 1)[1])])
    if reached:
        await tools.request({"url": f"{web.url}/status/200"}, CALL)
    else:
        with pytest.raises(ToolRejected):
            await tools.request({"url": f"{web.url}/status/200"}, CALL)
    await tools.close()


async def test_the_next_address_is_tried(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose first address does not answer is reached at its second."""
    names: dict[str, str | list[str]] = {"two.example": ["127.0.0.2", "127.0.0.1"]}
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(names))
    tools = HttpTools(["two.example"])
    answer = await tools.request({"url": f"http://two.example:{web.url.rsplit(':', 1)[1]}/status/200"}, CALL)
    assert answer["status"] == 200
    await tools.close()


async def test_a_name_without_addresses_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have one next time."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving({}))
    tools = HttpTools([])
    with pytest.raises(ToolUnavailable, match="cannot be resolved"):
        await tools.request({"url": "http://nowhere.invalid/"}, CALL)
    await tools.close()


@pytest.mark.parametrize("text", ["", "example.com", "1.2.3", "fe80::1%lo", "::1%lo", "2001:db8::1"])
def test_what_is_not_surely_public_is_private(text: str) -> None:
    """Zones, texts that are no address, and what is kept for documentation."""
    assert not public(text)


async def test_cookies_are_not_kept(web: Web) -> None:
    """What a server sets for one pipeline is not sent for another."""
    tools = HttpTools(["127.0.0.1"])
    for _ in range(2):
        await tools.request({"url": f"{web.url}/cookie"}, CALL)
    assert [asked.headers.get("cookie") for asked in web.asked] == [None, None]
    await tools.close()
