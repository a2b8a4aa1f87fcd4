"""`rediss://`: what is encrypted, and which certificates are believed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import ClassVar, Final

import pytest
import redis
import servers
from redis_server import DURABLE, PASSWORD, Redis, client
from servers import Run, Server

from threadkeep.errors import StoreError, StoreUnavailable
from threadkeep.port import Changes, Record, Thread, Window, open_store, scan_backend, store_exists

THREAD = Thread("alice", "support")


EXTENSIONS: Final = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[own]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
"""What Python 3.13 asks of certificates (ssl.VERIFY_X509_STRICT)."""


class RedisTls(Redis):
    """A server that takes TLS only, with a certificate for localhost signed by an authority of its own."""

    name = "redis-tls"
    variable = "THREADKEEP_TEST_REDIS_TLS_URL"
    image = ""
    folder: ClassVar[Path]

    def prepare(self, folder: Path, run: Run) -> None:
        type(self).folder = folder
        (folder / "openssl.cnf").write_text(EXTENSIONS)
        new = (
            "openssl",
            "req",
            "-config",
            "openssl.cnf",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        )
        authority = ("-nodes", "-days", "2", "-extensions", "authority", "-keyout", "ca.key", "-out", "ca.crt")
        _quiet(*new, *authority, "-subj", "/CN=authority", cwd=folder)
        own = ("-nodes", "-days", "2", "-extensions", "own", "-keyout", "own.key", "-out", "own.crt")
        _quiet(*new, *own, "-subj", "/CN=localhost", "-CA", "ca.crt", "-CAkey", "ca.key", cwd=folder)

    def command(self, program: Path, folder: Path, port: int) -> Sequence[str]:
        files = ("--tls-cert-file", "own.crt", "--tls-key-file", "own.key", "--tls-ca-cert-file", "ca.crt")
        own = ("--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no")
        return [str(program), *own, *files, "--dir", str(folder), "--requirepass", PASSWORD, *DURABLE]

    def url(self, host: str, port: int) -> str:
        return super().url("localhost", port).replace("redis:", "rediss:")

    def answers(self, host: str, port: int) -> bool:
        try:
            with closing(client("localhost", port, ssl=True, ssl_ca_certs=str(self.folder / "ca.crt"))) as asked:
                return bool(asked.ping())
        except redis.RedisError:
            return False


def _quiet(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise servers.ServerMissing(f"{' '.join(command)} failed: {done.stderr}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = servers.private(RedisTls())
    yield made
    made.stop()


async def test_a_store_over_tls_keeps_and_looks(server: Server) -> None:
    url = f"{server.url}?tls_ca={RedisTls.folder}/ca.crt"

    store = open_store(url)
    await store.commit(THREAD, Changes(at=1, epoch="e", append=(Record("m", "d", '"hello"'),)))
    assert [record.body for record in (await store.load(THREAD, Window(before=5))).records] == ['"hello"']
    await store.close()
    assert store_exists(url) is True
    assert b"hello" in b"\n".join(scan_backend(url) or ())


@pytest.mark.parametrize(
    ("host", "options", "works"),
    [
        ("localhost", "?tls_ca={folder}/ca.crt&tls_verify=full", True),
        ("localhost", "", False),
        ("127.0.0.1", "?tls_ca={folder}/ca.crt", False),
        ("127.0.0.1", "?tls_ca={folder}/ca.crt&tls_verify=ca", True),
        ("127.0.0.1", "?tls_verify=ca", False),
        ("127.0.0.1", "?tls_verify=none", True),
    ],
)
async def test_certificates_are_believed_as_the_url_says(server: Server, host: str, options: str, works: bool) -> None:
    url = server.url.replace("localhost", host) + options.format(folder=RedisTls.folder)
    store = open_store(url)
    if works:
        await store.open()
    else:
        with pytest.raises(StoreError, match="certificate") as caught:
            await store.open()
        assert not caught.value.retryable
    await store.close()


async def test_a_client_without_tls_is_turned_away(server: Server) -> None:
    store = open_store(server.url.replace("rediss:", "redis:"))
    with pytest.raises(StoreUnavailable):
        await store.open()
    await store.close()
