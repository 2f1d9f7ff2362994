"""Object stores on loopback, a proxy that injects faults, and the files of mirrors for tests."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from hub_server import OWNER, TOKEN, hub_server

# Read when gcsfs is imported. Otherwise it asks Google for a minute whether a bucket has real folders.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

BUCKET = "bucket"
S3_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
GCS_PROGRAM = (
    "from gcp_storage_emulator.server import create_server; "
    f"create_server('127.0.0.1', {{}}, in_memory=True, default_bucket='{BUCKET}').run()"
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(program, port):
    """Run a server until the end of the block. It must listen at the port within a minute."""
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline, "timeout"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def variables(values):
    """Set environment variables within the block, and let fsspec forget the stores that it opened with others."""
    earlier = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    forget_stores()
    try:
        yield
    finally:
        for name, value in earlier.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        forget_stores()


def forget_stores():
    import fsspec

    for scheme in ("s3", "gs"):
        fsspec.get_filesystem_class(scheme).clear_instance_cache()


@pytest.fixture(scope="session")
def s3_port():
    """Start an S3 server with a bucket, and return its port."""
    port = free_port()
    with serving([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        make_bucket(port)
        yield port


def make_bucket(port):
    import boto3

    keys = {
        "aws_access_key_id": S3_VARIABLES["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": S3_VARIABLES["AWS_SECRET_ACCESS_KEY"],
    }
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", **keys)
    client.create_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture(scope="session")
def gcs_port():
    """Start a Google Cloud Storage emulator with a bucket, and return its port."""
    port = free_port()
    with serving([sys.executable, "-c", GCS_PROGRAM.format(port)], port):
        yield port


def s3_variables(port):
    return S3_VARIABLES | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def gcs_variables(port):
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


@pytest.fixture
def store(request, tmp_path):
    """Return the URL of an empty mirror in a store of the requested kind: "directory", "s3", "gcs" or "hub"."""
    if request.param == "directory":
        yield str(tmp_path / "mirror")
    elif request.param == "s3":
        with variables(s3_variables(request.getfixturevalue("s3_port"))):
            yield f"s3://{BUCKET}/{tmp_path.name}"
    elif request.param == "hub":
        request.getfixturevalue("hub")
        yield f"hf://{OWNER}/{tmp_path.name}/run"
    else:
        with variables(gcs_variables(request.getfixturevalue("gcs_port"))):
            yield f"gs://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Run a stand-in of the hub with an empty repository. huggingface_hub uses it in this process."""
    import huggingface_hub.constants
    from huggingface_hub import HfFileSystem

    with hub_server() as server:
        for name, value in {
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        server.commit(f"{OWNER}/{tmp_path.name}", {})
        HfFileSystem.clear_instance_cache()
        yield server
        HfFileSystem.clear_instance_cache()


# huggingface_hub uploads large files with an argument that httpx deprecates.
HUB = pytest.param("hub", marks=pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"))
each_store = pytest.mark.parametrize("store", ["directory", "s3", "gcs", HUB], indirect=True)
each_exclusive_store = pytest.mark.parametrize("store", ["directory", "s3", HUB], indirect=True)
"""Stores with conditional creation. The GCS emulator ignores the condition."""
each_renewing_store = pytest.mark.parametrize("store", ["directory", "s3"], indirect=True)
"""Of these, the stores in which leases are renewed."""


class Proxy:
    """A TCP proxy in front of a server, with a fault that can be changed at any time.

    fault: "none"; "silent": nothing is forwarded; "500": each request gets this status; "slow": 20 KB per second;
        "cut": a connection is closed after 20 KB.
    """

    def __init__(self, target):
        self.target, self.fault = target, "none"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [client, server]
                threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source, sink, is_request):
        total = 0
        with suppress(OSError):
            while data := source.recv(2000):
                total += len(data)
                while self.fault == "silent":
                    time.sleep(0.05)
                if self.fault == "500" and is_request:
                    source.sendall(
                        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                    break
                if self.fault == "cut" and total > 20_000:
                    break
                if self.fault == "slow":
                    time.sleep(0.1)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.fault = "none"
        for end in [self.listener, *self.sockets]:
            end.close()


@contextmanager
def proxy_to(port):
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
