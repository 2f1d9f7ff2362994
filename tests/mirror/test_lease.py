"""Only one machine writes to a mirror: leases in a directory and in an S3 server, with several threads as machines."""

import json
import threading
import time

import pytest
from object_stores import HUB, each_renewing_store, hub, s3_port, store  # noqa: F401

from transformer_jax.errors import InputError
from transformer_jax.mirror import lease as lease_module
from transformer_jax.mirror.lease import Lease
from transformer_jax.mirror.opening import open_mirror


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(lease_module, "RENEWAL_SECONDS", 0.2)
    monkeypatch.setattr(lease_module, "EXPIRY_SECONDS", 2.0)


def abandon(lease):
    """Stop renewing a lease, as if its machine were killed."""
    lease.stopped.set()
    lease.thread.join()


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.02)


@each_renewing_store
def test_a_second_machine_is_refused_while_the_first_renews(store):  # noqa: F811
    first = Lease(open_mirror(store))
    with pytest.raises(InputError, match=r"is in use by process [0-9]+ on .*\. Wait until that run ends, or choose"):
        Lease(open_mirror(store))
    assert first.is_held()
    first.release()
    second = Lease(open_mirror(store))
    assert second.is_held()
    second.release()
    assert open_mirror(store).names() == []


@each_renewing_store
def test_an_expired_lease_is_taken_over(store, caplog):  # noqa: F811
    first = Lease(open_mirror(store))
    abandon(first)
    caplog.set_level("INFO")
    began = time.monotonic()
    second = Lease(open_mirror(store))
    assert time.monotonic() - began >= lease_module.EXPIRY_SECONDS
    assert f"still uses {store}" in caplog.text
    assert second.number == 2
    assert open_mirror(store).names() == ["lease/2.json"]
    second.release()


@each_renewing_store
def test_of_several_machines_one_gets_the_lease(store, monkeypatch):  # noqa: F811
    monkeypatch.setattr(lease_module, "EXPIRY_SECONDS", 60.0)  # No lease expires on a slow machine.
    leases, refused = [], []

    def start():
        try:
            leases.append(Lease(open_mirror(store)))
        except InputError as error:
            refused.append(error)

    machines = [threading.Thread(target=start) for _ in range(5)]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    assert len(leases) == 1
    assert len(refused) == 4
    leases[0].release()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_a_paused_machine_loses_its_lease(store, caplog):  # noqa: F811
    objects = open_mirror(store)
    first = Lease(objects)
    objects.create("lease/2.json", b"{}")  # Another machine has found the first lease expired.
    wait_until(lambda: first.is_lost)
    assert not first.is_held()
    assert "was taken over by another machine. Training continues" in caplog.text
    first.release()
    assert objects.names() == ["lease/1.json", "lease/2.json"]


@pytest.mark.parametrize("store", ["directory"], indirect=True)
def test_nothing_is_written_while_renewals_fail(store, monkeypatch):  # noqa: F811
    objects = open_mirror(store)
    lease = Lease(objects)
    replace = objects.replace
    monkeypatch.setattr(objects, "replace", lambda *_: 1 / 0)
    wait_until(lambda: not lease.is_held())
    assert not lease.is_lost
    monkeypatch.setattr(objects, "replace", replace)
    wait_until(lease.is_held)
    lease.release()


@pytest.mark.parametrize("store", ["directory"], indirect=True)
@pytest.mark.parametrize("renewed", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00", "", None, 7])
def test_the_clock_of_another_machine_does_not_matter(store, renewed):  # noqa: F811
    objects = open_mirror(store)
    stop = threading.Event()

    def renew(number=0):
        while not stop.wait(0.2):
            objects.replace(
                "lease/1.json", json.dumps({"owner": "A", "renewed": renewed, "n": (number := number + 1)}).encode()
            )

    objects.create("lease/1.json", b"")
    machine = threading.Thread(target=renew)
    machine.start()
    with pytest.raises(InputError, match="is in use by"):
        Lease(objects)
    stop.set()
    machine.join()
    Lease(objects).release()  # It is taken over as soon as it does not change any more.


@pytest.mark.parametrize("store", [HUB], indirect=True)
def test_on_the_hub_a_new_start_takes_over_at_once(store, caplog):  # noqa: F811
    first = Lease(open_mirror(store))
    assert first.is_held()
    second = Lease(open_mirror(store))
    assert second.is_held()
    assert not first.is_held()
    assert "was taken over by another machine" in caplog.text
    first.release()
    second.release()
    assert open_mirror(store).names() == []
