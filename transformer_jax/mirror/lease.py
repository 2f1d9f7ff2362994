"""A lease that lets only one machine write to a mirror.

Each lease is a numbered file, created only if it does not exist yet. The highest number holds the mirror, and its owner
rewrites the file again and again. No clock of another machine matters: a lease is expired if its content has not
changed while this machine watched it for ``EXPIRY_SECONDS``.

On the Hugging Face hub, leases are not renewed. A new start takes the lease at once, and the earlier machine notices it
before its next upload.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

from transformer_jax.errors import InputError
from transformer_jax.mirror.objects import MirrorObjects
from transformer_jax.storage.remote import describe_error
from transformer_jax.terminal import one_line

FOLDER = "lease"
RENEWAL_SECONDS = 5.0
"""Time between two renewals."""
EXPIRY_SECONDS = 30.0
"""Time without a renewal after which another machine may take over."""
RELEASE_SECONDS = 5.0
"""Time that the end of a run waits for the removal of its lease."""


class Lease:
    """The right to write to a mirror, renewed in the background until ``release``."""

    def __init__(self, objects: MirrorObjects) -> None:
        """Take the lease.

        Raises InputError if another machine renews its lease.
        """
        self.objects = objects
        self.owner = f"process {os.getpid()} on {socket.gethostname()}"
        self.renewals = 0
        self.is_lost = False
        self.stopped = threading.Event()
        self.number = self._take()
        self.renewed = time.monotonic()
        self.thread = threading.Thread(target=self._keep_renewing, name="mirror-lease", daemon=True)
        if objects.renews_leases:
            self.thread.start()

    def is_held(self) -> bool:
        """Return whether this machine may write now. It is False while renewals fail, and forever once it is lost."""
        if not self.objects.renews_leases:
            self._notice_loss()
            return not self.is_lost
        return not self.is_lost and time.monotonic() - self.renewed < EXPIRY_SECONDS

    def release(self) -> None:
        """End the lease, so that the next start need not wait. Do not wait long for a store that does not answer."""
        self.stopped.set()
        releasing = threading.Thread(target=self._delete_own, daemon=True)
        releasing.start()
        releasing.join(RELEASE_SECONDS)

    def _take(self) -> int:
        while True:
            number, content = self._newest()
            if number and self.objects.renews_leases and not self._is_expired(number, content):
                continue  # It was released.
            if not self.objects.create(self._name(number + 1), self._content()):
                raise self._in_use(self._newest()[1])
            for earlier in range(1, number + 1):
                self.objects.delete(self._name(earlier))
            return number + 1

    def _is_expired(self, number: int, content: bytes) -> bool:
        """Watch the lease of another machine. Return False if it is released, and raise InputError if it is renewed."""
        owner = _owner(content)
        logging.info(f"checking for {EXPIRY_SECONDS:.0f} s whether {owner} still uses {self.objects.remote.url} ...")
        deadline = time.monotonic() + EXPIRY_SECONDS
        while time.monotonic() < deadline:
            time.sleep(RENEWAL_SECONDS / 5)
            newest = self._newest()
            if newest == (0, b""):
                return False
            if newest != (number, content):
                raise self._in_use(newest[1])
        return True

    def _in_use(self, content: bytes) -> InputError:
        return InputError(
            f"{self.objects.remote.url} is in use by {_owner(content)}. Wait until that run ends, or choose another "
            "--mirror."
        )

    def _newest(self) -> tuple[int, bytes]:
        """Return number and content of the newest lease; 0 and nothing if there is none."""
        pattern = re.compile(rf"{FOLDER}/([1-9][0-9]*)\.json")
        numbers = [int(match[1]) for name in self.objects.names(FOLDER) if (match := pattern.fullmatch(name))]
        number = max(numbers, default=0)
        content = self.objects.read(self._name(number)) if number else None
        return (0, b"") if content is None else (number, content)

    def _keep_renewing(self) -> None:
        while not self.stopped.wait(RENEWAL_SECONDS):
            try:
                began = time.monotonic()
                self._notice_loss()
                if self.is_lost:
                    return
                self.renewals += 1
                self.objects.replace(self._name(self.number), self._content())
                self.renewed = began
            except Exception as error:  # The store may answer again. Until then, ``is_held`` becomes False.
                logging.debug(f"{self.objects.remote.url}: the lease was not renewed ({describe_error(error)}).")

    def _notice_loss(self) -> None:
        if not self.is_lost and self._newest()[0] != self.number:
            self.is_lost = True
            logging.warning(
                f"{self.objects.remote.url} was taken over by another machine. Training continues, but nothing more is "
                "uploaded."
            )

    def _delete_own(self) -> None:
        with suppress(Exception):  # The next start then waits for the expiry.
            if self.thread.is_alive():
                self.thread.join()
            if not self.is_lost:
                self.objects.delete(self._name(self.number))

    def _content(self) -> bytes:
        # The time is only for people who look at the file.
        renewed = datetime.now(UTC).isoformat(timespec="seconds")
        return json.dumps({"owner": self.owner, "renewals": self.renewals, "renewed": renewed}).encode()

    def _name(self, number: int) -> str:
        return f"{FOLDER}/{number}.json"


def _owner(content: bytes) -> str:
    """Return the owner in the content of a lease. The file may be damaged."""
    try:
        return one_line(str(json.loads(content)["owner"]), 200)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another machine"
