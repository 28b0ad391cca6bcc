"""TLS through the guard: the certificate is checked for the name that was asked, not for the address connected to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.errors import ToolUnavailable
from engine.tools import guard
from engine.tools.calls import Call
from engine.tools.http import HttpTools
from tests.unit.tools.names import resolving

CALL = Call(UUID(int=7), "fetch", "run:fetch", fence=42, attempt=1, timeout=timedelta(seconds=30))
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for one name, signed by its own key: files of both."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@asynccontextmanager
async def server(certificate: Path, key: Path) -> AsyncIterator[int]:
    """A TLS server's port; it answers whatever it is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"\r\n", b""):
            pass
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_the_certificate_is_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names on one address: the one that the certificate has is reached, the other is not."""
    files = certificate(tmp_path, "good.example")
    trusted = ssl.create_default_context(cafile=str(files[0]))
    monkeypatch.setattr(guard, "_authorities", lambda: trusted)
    names: dict[str, str | list[str]] = {"good.example": "127.0.0.1", "evil.example": "127.0.0.1"}
    tools = HttpTools(names)
    async with server(*files) as port:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(names))
        answer = await tools.request({"url": f"https://good.example:{port}/"}, CALL)
        assert answer["body"] == "ok"
        with pytest.raises(ToolUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await tools.request({"url": f"https://evil.example:{port}/"}, CALL)
    await tools.close()
