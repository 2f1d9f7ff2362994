"""All processes of a run meet before it starts. What is missing or wrong is named on each of them."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from transformer_jax.errors import InputError, RunError
from transformer_jax.runtime import roll_call
from transformer_jax.runtime.roll_call import Member, call_roll, identify_process, report_failure


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(roll_call, "JOIN_SECONDS", 0.6)
    monkeypatch.setattr(roll_call, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(roll_call, "RETRY_SECONDS", 0.05)


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def outcome(function, *arguments):
    """Return the error that the function raises."""
    try:
        return function(*arguments)
    except (InputError, RunError) as error:
        return error


def call_together(*members):
    """Let each member call the roll in its own thread, and return what each raises."""
    with ThreadPoolExecutor(len(members)) as threads:
        return list(threads.map(lambda member: outcome(call_roll, member), members))


def test_all_processes_start_together(address):
    assert call_together(*(Member(address, 3, process) for process in range(3))) == [None, None, None]
    # The address is free for JAX.
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass


def test_single_process_does_not_wait(address):
    assert call_roll(Member(address, 1, 0)) is None


def test_different_numbers_of_processes_are_refused_by_all(address):
    errors = call_together(Member(address, 3, 0), Member(address, 2, 1))
    assert [type(error) for error in errors] == [InputError, InputError]
    for error in errors:
        assert str(error).startswith("process 1 has JAX_NUM_PROCESSES 2, process 0 has 3. Set JAX_NUM_PROCESSES to")


@pytest.mark.parametrize("process", [0, 1])
def test_process_id_that_occurs_twice_is_refused_by_all(process, address):
    errors = call_together(Member(address, 3, 0), Member(address, 3, process), Member(address, 3, process or 2))
    assert [type(error) for error in errors].count(InputError) >= 2
    assert all(f"2 processes have JAX_PROCESS_ID {process}. " in str(error) for error in errors)


def test_missing_processes_are_named_by_all_others(address):
    errors = call_together(Member(address, 5, 0), Member(address, 5, 2))
    for error in errors:
        assert isinstance(error, RunError)
        assert str(error).startswith(f"processes 1, 3 and 4 have not come within 0.6 s: no connection to {address}.")


def test_missing_process_0_is_named(address):
    [error] = call_together(Member(address, 2, 1))
    assert isinstance(error, RunError)
    assert f"process 0 of 2 is missing: it did not answer process 1 at {address} within 0.6 s" in str(error)


def send_to(address, message):
    """Send a message as soon as something listens at the address, and leave."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as stranger, suppress(OSError):
            stranger.connect(roll_call.split_address(address))
            stranger.sendall(message)
            return


def test_process_that_leaves_is_missing(address):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(outcome, call_roll, Member(address, 2, 0))
        send_to(address, b'{"process": 1, ')
        assert str(waiting.result()).startswith("process 1 has not come within 0.6 s")


@pytest.mark.parametrize("failed", [0, 1])
def test_failure_before_the_start_ends_the_others(failed, address):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(outcome, call_roll, Member(address, 2, 1 - failed))
        report_failure(Member(address, 2, failed), "training.steps is 0.")
        error = waiting.result()
    assert isinstance(error, RunError)
    assert str(error) == f"process {failed} of the run failed: training.steps is 0."


def test_failure_is_reported_in_vain_if_no_one_waits(address):
    report_failure(Member(address, 2, 1), "reason")
    report_failure(Member(address, 2, 0), "reason")
    for address in ("nonsense", "a..b:1234", f"{'x' * 64}:1234", "host.invalid:1234"):
        report_failure(Member(address, 2, 0), "reason")
        report_failure(Member(address, 2, 1), "reason")


@pytest.mark.parametrize(
    "message", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x18\x04", b"[]\n", b"{}\n", b"x" * 2**16, b""]
)
def test_other_programs_do_not_disturb(message, address):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(outcome, call_roll, Member(address, 2, 0))
        send_to(address, message)
        assert call_roll(Member(address, 2, 1)) is None
        assert waiting.result() is None


def test_port_of_another_program_is_named(address):
    with socket.create_server(("", int(address.rpartition(":")[2]))):
        errors = call_together(Member(address, 2, 0), Member(address, 2, 1))
    assert isinstance(errors[0], InputError)
    assert f"process 0 cannot listen at JAX_COORDINATOR_ADDRESS {address}: Address already in use" in str(errors[0])
    assert isinstance(errors[1], RunError)


def test_a_host_name_that_resolves_later_is_retried(address, monkeypatch):
    real = socket.getaddrinfo
    attempts = []

    def resolve_third_attempt(host, *arguments, **options):
        if host == "headless":
            attempts.append(host)
            if len(attempts) < 3:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_third_attempt)
    port = address.rpartition(":")[2]
    assert call_together(Member(address, 2, 0), Member(f"headless:{port}", 2, 1)) == [None, None]
    assert len(attempts) == 3


def test_a_host_name_that_never_resolves_is_named_in_the_end():
    began = time.monotonic()
    with pytest.raises(
        InputError, match=r"the host host\.invalid was not found \(.*\)\. Set the variable to HOST:PORT"
    ):
        call_roll(Member("host.invalid:1234", 2, 1))
    assert time.monotonic() - began >= roll_call.JOIN_SECONDS


def test_the_time_limit_holds_for_a_host_of_many_addresses(monkeypatch):
    timeouts = []

    def time_out(address, timeout):
        timeouts.append(timeout)
        time.sleep(min(timeout, 0.2))
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", time_out)
    monkeypatch.setattr(roll_call, "ATTEMPT_SECONDS", 0.2)
    [error] = call_together(Member("host:1234", 2, 1))
    assert "within 0.6 s (timed out)" in str(error)
    assert max(timeouts) == 0.2
    assert 0 < min(timeouts) < 0.2, "the last attempt has the remaining time"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Member("host", 2, 1), "JAX_COORDINATOR_ADDRESS host is invalid. Set it to HOST:PORT"),
        (Member("host:0", 2, 0), "JAX_COORDINATOR_ADDRESS host:0 is invalid"),
        (Member("host:99999", 2, 0), "JAX_COORDINATOR_ADDRESS host:99999 is invalid"),
        (Member("host.invalid:1234", 2, 0), "the host host.invalid was not found"),
        (Member("a..b:1234", 2, 1), "JAX_COORDINATOR_ADDRESS a..b:1234 is invalid"),
        (Member(f"{'x' * 64}:1234", 2, 1), "is invalid. Set it to HOST:PORT"),
        (Member("127.0.0.1:1", 2, 2), "JAX_PROCESS_ID is 2, but JAX_NUM_PROCESSES is 2."),
        (Member("127.0.0.1:1", 0, 0), "JAX_PROCESS_ID is 0, but JAX_NUM_PROCESSES is 0."),
    ],
)
def test_invalid_variable_is_refused_at_once(member, message):
    with pytest.raises(InputError, match=message):
        call_roll(member)


@pytest.mark.parametrize("value", ["two", "-1", "1.5", "9" * 5000])
def test_number_that_is_none_is_refused(value, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", value)
    with pytest.raises(InputError, match=r"JAX_NUM_PROCESSES is .* Set it to a number"):
        identify_process()


def test_empty_variable_counts_as_unset(monkeypatch):
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS"):
        monkeypatch.setenv(name, "")
    with pytest.raises(InputError, match="Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        identify_process()
