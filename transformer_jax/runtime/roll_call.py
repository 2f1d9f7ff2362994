"""Meeting of all processes of a distributed run, before JAX connects them.

If a process is missing or has different numbers, JAX's client aborts with a C++ stack trace that names neither the
process nor the numbers. The processes therefore first connect to the address of the coordinator: process 0 listens, the
others send their process ID and number of processes, and process 0 answers all of them. Then process 0 stops listening,
and JAX's coordination service listens at the address.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from jax._src.clusters import ClusterEnv  # JAX has no public API for this.

from transformer_jax.errors import InputError, RunError
from transformer_jax.runtime.agreement import describe_differences, format_processes

JOIN_SECONDS = 60.0
"""Time in which all processes must connect. Each process counts it from its own start."""
GRACE_SECONDS = 2.0
"""Time after a problem in which process 0 still accepts connections, to report the problem to other processes."""
ATTEMPT_SECONDS = 5.0
"""Timeout of one attempt to connect, per IP address of the host."""
RETRY_SECONDS = 0.2
"""Time between two attempts to connect."""
SET_VARIABLES = "Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."
MAX_MESSAGE_BYTES = 2**14
"""Maximum length of a message. Any program may connect."""


class Member(NamedTuple):
    """A process and the run that it belongs to.

    address: HOST:PORT of the coordinator, which runs in process 0.
    processes: number of processes.
    process: ID of this process.
    """

    address: str
    processes: int
    process: int


class Verdict(NamedTuple):
    """The answer of process 0.

    problem: why the run cannot start; empty if all processes have connected.
    is_input: whether the cause is invalid input, not a failure.
    """

    problem: str
    is_input: bool = False

    def require_success(self) -> None:
        """Raise InputError or RunError if the run cannot start."""
        if self.problem:
            raise (InputError if self.is_input else RunError)(self.problem)


def identify_process() -> Member:
    """Return this process and its run, from the environment variables or, on TPU pods and Slurm, from JAX.

    Raises InputError if a variable is missing or invalid.
    """
    try:
        address, processes, process, _ = ClusterEnv.auto_detect_unset_distributed_params(
            os.environ.get("JAX_COORDINATOR_ADDRESS") or None,
            _read_number("JAX_NUM_PROCESSES"),
            _read_number("JAX_PROCESS_ID"),
            local_device_ids=None,
            cluster_detection_method=None,
            initialization_timeout=int(JOIN_SECONDS),
        )
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"--distributed: the processes were not found ({reason}). {SET_VARIABLES}") from error
    if address is None or processes is None or process is None:
        raise InputError(
            f"--distributed: no TPU pod or Slurm job was found, and a variable is not set. {SET_VARIABLES}"
        )
    return Member(address, processes, process)


def _read_number(variable: str) -> int | None:
    value = os.environ.get(variable)
    if value and not (value.isdecimal() and value.isascii() and len(value) < 6):
        raise InputError(f"{variable} is {value[:100]}. Set it to a number from 0 to 99999.")
    return int(value) if value else None


def call_roll(member: Member) -> None:
    """Wait until all processes of the run have connected to process 0.

    Raises InputError, on every process, if the numbers of processes differ or if two processes have the same ID.
    Raises InputError if the address is invalid, or if its host is not found: immediately on process 0, and after
    JOIN_SECONDS on the others, since the name of a host that has just started may not be in the DNS yet.
    Raises RunError, on every process, if a process has failed or has not connected within JOIN_SECONDS.
    """
    host, port = split_address(member.address)
    if member.process >= member.processes:
        problem = (
            f"JAX_PROCESS_ID is {member.process}, but JAX_NUM_PROCESSES is {member.processes}. Set JAX_PROCESS_ID to a "
            f"different number on each host, from 0 to {max(0, member.processes - 1)}."
        )
        report_failure(member, problem)
        raise InputError(problem)
    if member.process:
        _answer_call(member, JOIN_SECONDS).require_success()
        return
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _host_not_found(member, error) from error
    try:
        listener = _listen(port)
    except OSError as error:
        _raise_conflict(member, error)
    with listener:
        _Register(member, listener).call().require_success()


def report_failure(member: Member, reason: str) -> None:
    """Tell the other processes, if they are waiting, that this process has failed.

    reason: its error message.
    """
    try:
        _, port = split_address(member.address)
        if member.process:
            _answer_call(member, GRACE_SECONDS, reason)
        else:
            with _listen(port) as listener:
                _Register(member, listener, reason).call()
    except (InputError, RunError, OSError):
        return  # No process waits, or the address is invalid, which the other processes report themselves.


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of HOST:PORT or [HOST]:PORT. Raises InputError if the address is invalid."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        host.encode("idna")  # As socket does. It raises UnicodeError for empty labels and labels over 63 characters.
        is_valid = bool(host) and port.isdecimal() and 0 < int(port[:6]) < 2**16
    except UnicodeError:
        is_valid = False
    if not is_valid:
        raise InputError(
            f"JAX_COORDINATOR_ADDRESS {address} is invalid. Set it to HOST:PORT of process 0, such as host0:1234."
        )
    return host, int(port)


def _listen(port: int) -> socket.socket:
    """Return a socket at the address where JAX's coordination service will listen. port: that of the coordinator."""
    bind_address = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    host, port = split_address(bind_address) if bind_address else ("", port)
    if host in ("", "::") and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _host_not_found(member: Member, error: socket.gaierror) -> InputError:
    host, _ = split_address(member.address)
    return InputError(
        f"JAX_COORDINATOR_ADDRESS {member.address}: the host {host} was not found ({error.strerror}). Set the variable "
        "to HOST:PORT of process 0."
    )


def _raise_conflict(member: Member, error: OSError) -> NoReturn:
    """Raise the error of a process 0 that cannot listen. If another process 0 listens, report the conflict to it."""
    if error.errno == errno.EADDRINUSE:
        try:
            verdict = _answer_call(member, GRACE_SECONDS)
        except RunError:
            verdict = Verdict("")  # Another program uses the port.
        verdict.require_success()
    raise InputError(
        f"process 0 cannot listen at JAX_COORDINATOR_ADDRESS {member.address}: {os.strerror(error.errno or 0)}. "
        "Set another port on all hosts."
    ) from error


def _answer_call(member: Member, seconds: float, failure: str = "") -> Verdict:
    """Connect to process 0 and return its verdict.

    seconds: time in which process 0 must accept the connection. Attempts are repeated until then.
    failure: error message of this process if it has failed; otherwise empty.
    Raises InputError if the host is not found. Raises RunError if process 0 does not answer.
    """
    deadline = time.monotonic() + seconds
    message = _encode({"process": member.process, "processes": member.processes, "failure": failure[:1000]})
    attempt_error: OSError = TimeoutError("timed out")
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            timeout = min(ATTEMPT_SECONDS, remaining)
            with socket.create_connection(split_address(member.address), timeout=timeout) as connection:
                connection.sendall(message)
                # The deadline of process 0 starts when process 0 does.
                connection.settimeout(seconds + 2 * GRACE_SECONDS)
                with connection.makefile("rb") as stream:
                    answer = _decode(stream.readline(MAX_MESSAGE_BYTES))
            if isinstance(answer.get("problem"), str):
                return Verdict(answer["problem"], bool(answer.get("is_input")))
            attempt_error = OSError("another program, or a run that has already started, uses this address")
        except OSError as error:
            attempt_error = error
        time.sleep(RETRY_SECONDS)
    if isinstance(attempt_error, socket.gaierror):
        raise _host_not_found(member, attempt_error)
    reason = (attempt_error.strerror or str(attempt_error)).lower()
    raise RunError(
        f"process 0 of {member.processes} is missing: it did not answer process {member.process} at {member.address} "
        f"within {seconds:g} s ({reason}). Start all processes at the same time, with the same JAX_COORDINATOR_ADDRESS "
        "and different JAX_PROCESS_ID."
    )


class _Register:
    """The processes that have connected to process 0."""

    def __init__(self, member: Member, listener: socket.socket, failure: str = "") -> None:
        """Add process 0. failure: error message of process 0 if it has failed; otherwise empty."""
        self.member = member
        self.failures = {0: failure} if failure else {}
        self.present: dict[socket.socket, Member] = {}
        self.received: dict[socket.socket, bytes] = {}
        self.listener = listener
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)

    def call(self) -> Verdict:
        """Wait for all processes, or for a problem, and answer all connected processes."""
        try:
            deadline = time.monotonic() + JOIN_SECONDS
            while not self.is_settled() and time.monotonic() < deadline:
                self._receive_until(deadline)
            deadline = time.monotonic() + (GRACE_SECONDS if self.verdict().problem else 0)
            while time.monotonic() < deadline:
                self._receive_until(deadline)
            verdict = self.verdict()
            for connection in self.present:
                with suppress(OSError):
                    connection.sendall(_encode(verdict._asdict()))
            return verdict
        finally:
            self.selector.close()
            for connection in self.received:
                connection.close()

    def _receive_until(self, deadline: float) -> None:
        """Receive connections and messages. Return after the first of them or at the deadline."""
        for key, _ in self.selector.select(max(0.0, deadline - time.monotonic())):
            if key.fileobj is self.listener:
                with suppress(OSError):  # The other side has already disconnected.
                    connection, _ = self.listener.accept()
                    connection.setblocking(False)
                    self.received[connection] = b""
                    self.selector.register(connection, selectors.EVENT_READ)
            elif isinstance(key.fileobj, socket.socket):
                self._read(key.fileobj)

    def _read(self, connection: socket.socket) -> None:
        """Read a part of a message. Add its process when it is complete, and remove a process that has disconnected."""
        try:
            part = connection.recv(MAX_MESSAGE_BYTES)
        except OSError:
            part = b""
        self.received[connection] += part
        if not part or len(self.received[connection]) > MAX_MESSAGE_BYTES:
            self.selector.unregister(connection)
            self.present.pop(connection, None)
            del self.received[connection]
            connection.close()
        elif b"\n" in part:
            self._add(connection, _decode(self.received[connection]))

    def _add(self, connection: socket.socket, message: dict[str, Any]) -> None:
        process, processes, failure = (message.get(name) for name in ("process", "processes", "failure"))
        if type(process) is int and type(processes) is int and isinstance(failure, str):
            if failure:
                self.failures[process] = failure
            else:
                self.present[connection] = Member(self.member.address, processes, process)

    def is_settled(self) -> bool:
        """Return whether to stop waiting: all processes have connected, or the run cannot start."""
        verdict = self.verdict()
        return not verdict.problem or verdict.is_input or bool(self.failures)

    def verdict(self) -> Verdict:
        """Return whether the run can start with the processes that are connected now."""
        members = [self.member, *self.present.values()]
        for process, failure in self.failures.items():
            return Verdict(f"process {process} of the run failed: {failure}")
        if differences := describe_differences(
            {member.process: {"JAX_NUM_PROCESSES": str(member.processes)} for member in reversed(members)}
        ):
            return Verdict(f"{differences}. Set JAX_NUM_PROCESSES to the same number on all hosts.", is_input=True)
        counts = Counter(member.process for member in members)
        for process, count in counts.items():
            if count > 1:
                return Verdict(
                    f"{count} processes have JAX_PROCESS_ID {process}. Set a different JAX_PROCESS_ID on each host, "
                    f"from 0 to {self.member.processes - 1}.",
                    is_input=True,
                )
        if missing := sorted({*range(self.member.processes)} - counts.keys()):
            return Verdict(
                f"{format_processes(missing)} not come within {JOIN_SECONDS:g} s: no connection to "
                f"{self.member.address}. Start all {self.member.processes} processes at the same time, and read their "
                "messages."
            )
        return Verdict("")


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _decode(line: bytes) -> dict[str, Any]:
    """Return a message, or an empty one if the other side is not a process of a run."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
