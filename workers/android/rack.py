"""All the phones that one adb server knows: who they are, whether they are there, and what they told of themselves."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from workers.android.history import PhoneHistory
from workers.android.identity import Identity
from workers.android.link import PATIENCE_S, ClosablePhone, Link, View
from workers.android.phone import Phone
from workers.android.presence import Listed, Presence, remedy
from workers.errors import AttemptError

#: After the server went, so long until its phones are missed: it has to be started, and to find them.
_SERVER_PATIENCE_S = 10.0
#: A server that cannot be started is tried again, ever more seldom.
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_DIAL_EVERY_S = 5.0
#: Phones of the network that were there when the server went are called for so long, then given up.
_REDIAL_FOR_S = 120.0
_NETWORK_ADDRESS = re.compile(r"[^\s/]+:\d{1,5}")


class Server(Protocol):
    """The part of an adb server that a rack needs (`workers.android.adb.AdbServer`)."""

    def track(self, stop: threading.Event) -> Iterator[tuple[Listed, ...]]:
        """All phones at first and at each change; raises AttemptError when the server goes."""

    def start(self) -> None:
        """Start it, unless it runs; raises AttemptError when that is not possible."""

    def kill(self) -> None:
        """End it; raises AttemptError when there is none."""

    def connect(self, address: str) -> None:
        """Reach a phone over the network; raises AttemptError."""

    def reconnect(self, address: str) -> None:
        """Drop the connection to a phone, so that it is made again; raises AttemptError."""

    def phone(self, listed: Listed) -> ClosablePhone:
        """The way to a phone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPhone:
    """A phone that was identified, there or not."""

    key: str
    identity: Identity
    presence: Presence
    #: What to do about a presence that is not online.
    remedy: str | None
    #: The way to it; None unless it is online.
    phone: Phone | None
    #: adb's words for it, when it was last seen: serial, address at the server, USB port.
    listed: Listed
    history: PhoneHistory


@dataclass(frozen=True, slots=True)
class Stranger:
    """A phone that adb shows and that never said who it is: not yet trusted, not up, or not open to this user."""

    listed: Listed
    presence: Presence
    remedy: str | None


@dataclass(slots=True)
class _Entry:
    identity: Identity
    listed: Listed
    history: PhoneHistory = field(default_factory=PhoneHistory)


class Rack:
    """A thread that follows the server, and one for each connection to a phone."""

    def __init__(
        self,
        server: Server | None,
        on_change: Callable[[], None],
        meet: Callable[[str, Phone], None],
        *,
        addresses: Collection[str] = (),
        why_not: str | None = None,
    ) -> None:
        """Nothing is looked at before `start`.

        Args:
            server: of adb; None where there is none on this host: the rack is empty then, and says why.
            on_change: called, with no lock held, when a phone came, went or changed its state.
            meet: called with the key of a phone that came and the way to it, before it is online: the place to clean
                up what others left on it. A phone that it refuses by an AttemptError is offline, with the error's
                message as what to do about it, and is offered again a few seconds later.
            addresses: HOST:PORT of phones to reach over the network.
            why_not: why there is no server.
        """
        self._server, self._on_change, self._meet = server, on_change, meet
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._links: dict[tuple[str, str | None], Link] = {}
        self._entries: dict[str, _Entry] = {}
        #: One thread at a time meets a phone, whatever number of connections it has.
        self._meeting: dict[str, threading.Lock] = {}
        #: Keys that two running phones claimed: theirs are made of more than a serial number.
        self._shared: set[str] = set()
        self._server_lost_at = float("-inf")
        self._addresses = frozenset(addresses)
        #: Phones of the network that the server before this one had, and until when they are called.
        self._redial: dict[str, float] = {}
        self._dialling: set[str] = set()
        self._why_not = why_not
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to look."""
        if self._server is None:
            return
        for name, work in (("adb", self._track), ("adb dial", self._dial)):
            thread = threading.Thread(target=self._guard, args=(work, self._server), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End all threads; phones and server are left as they are."""
        self._stop.set()
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.stop()
        until = time.monotonic() + 2.0
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        for link in links:
            link.join(max(0.0, until - time.monotonic()))

    @property
    def why_not(self) -> str | None:
        """Why no phone can be seen: no adb, or no server that would start. None while one answers."""
        return self._why_not

    @property
    def failure(self) -> BaseException | None:
        """A mistake of ours that a thread died of."""
        return self._failure

    @property
    def server(self) -> Server | None:
        """The adb server, for who repairs it."""
        return self._server

    def phones(self) -> list[KnownPhone]:
        """All that were ever identified here, there or not, by key."""
        with self._lock:
            return [self._known(key) for key in sorted(self._entries)]

    def phone(self, key: str) -> KnownPhone | None:
        """One of them; None if it never was here."""
        with self._lock:
            return self._known(key) if key in self._entries else None

    def strangers(self) -> list[Stranger]:
        """Those that adb shows and nobody knows."""
        with self._lock:
            views = [(link.seen, link.view) for link in self._links.values()]
        unknown = [
            Stranger(listed, view.presence, view.remedy)
            for listed, view in views
            if view.identity is None or view.identity.key is None
        ]
        return sorted(unknown, key=lambda stranger: (stranger.listed.serial, stranger.listed.usb_path or ""))

    def history(self, key: str) -> PhoneHistory:
        """What a phone told of itself; empty for one that never was here."""
        with self._lock:
            return self._entries[key].history if key in self._entries else PhoneHistory()

    def wait_for(self, key: str, is_so: Callable[[KnownPhone], bool], deadline_s: float) -> bool:
        """Wait until something is so of a phone; whether it came to be."""

        with self._changed:
            return self._changed.wait_for(lambda: key in self._entries and is_so(self._known(key)), timeout=deadline_s)

    # Below: the book that links write in (`workers.android.link.Book`).

    def shown(self, link: Link) -> None:
        """See `Book`."""
        identity = link.view.identity
        with self._changed:
            if identity is not None and identity.key is not None:
                entry = self._entries.setdefault(identity.key, _Entry(identity, link.seen))
                entry.identity, entry.listed = identity, link.seen
            self._changed.notify_all()
        if not self._stop.is_set():
            self._on_change()

    def is_shared(self, link: Link, identity: Identity) -> bool:
        """See `Book`.

        One phone on two connections has one boot id, two phones have two. The other is asked again, for one that was
        restarted may still look online on a connection that is dead.
        """
        key = identity.key
        with self._lock:
            if key in self._shared:
                return True
            others = [other for other in self._links.values() if other is not link and _is_online(other.view, key)]
        for other in others:
            boot_id = other.boot_id_now()
            if key is not None and None not in (boot_id, identity.boot_id) and boot_id != identity.boot_id:
                with self._lock:
                    self._shared.add(key)
                other.identify_again()
                return True
        return False

    @contextmanager
    def meeting(self, identity: Identity) -> Iterator[bool]:
        """See `Book`."""
        with self._lock:
            lock = self._meeting.setdefault(str(identity.key), threading.Lock())
        with lock:
            with self._lock:
                met = [link.view.identity for link in self._links.values() if _is_online(link.view, identity.key)]
            yield any(other is not None and other.boot_id == identity.boot_id for other in met)

    def met(self, identity: Identity, phone: Phone) -> None:
        """See `Book`."""
        self._meet(str(identity.key), phone)

    def history_of(self, identity: Identity) -> PhoneHistory:
        """See `Book`."""
        return self.history(str(identity.key))

    def leads(self, link: Link) -> bool:
        """See `Book`."""
        identity = link.view.identity
        with self._lock:
            return identity is None or self._best(identity.key) is link

    def patience_s(self) -> float:
        """See `Book`."""
        return max(PATIENCE_S, self._server_lost_at + _SERVER_PATIENCE_S - time.monotonic())

    def over(self, link: Link) -> bool:
        """See `Book`."""
        with self._lock:
            if link.is_listed():
                return False
            self._links = {place: other for place, other in self._links.items() if other is not link}
            return True

    def failed(self, error: BaseException) -> None:
        """See `Book`."""
        self._failure = self._failure or error
        self._on_change()

    # Below: what is asked with the lock held.

    def _best(self, key: str | None) -> Link | None:
        """The connection in use: one that works, by cable before network."""
        ways = [link for link in self._links.values() if (who := link.view.identity) is not None and who.key == key]
        return min(ways, key=_order, default=None)

    def _known(self, key: str) -> KnownPhone:
        entry, link = self._entries[key], self._best(key)
        view = link.view if link is not None else View(Presence.OFFLINE, remedy(Presence.ABSENT))
        return KnownPhone(
            key=key,
            identity=entry.identity,
            presence=view.presence,
            remedy=view.remedy,
            phone=view.phone,
            listed=link.seen if link is not None else entry.listed,
            history=entry.history,
        )

    def _last_seen_at(self, listed: Listed) -> Identity | None:
        """Who was there last, for a phone that cannot say who it is: of serial numbers that are one phone's own."""
        for key, entry in self._entries.items():
            if entry.listed.serial == listed.serial and entry.identity.note is None and key not in self._shared:
                return entry.identity
        return None

    # Below: the threads.

    def _guard(self, work: Callable[[Server], None], server: Server) -> None:
        try:
            work(server)
        except BaseException as error:  # the agent's next poll says so: no side loop dies in silence
            self.failed(error)
            raise

    def _track(self, server: Server) -> None:
        """Follow the server; start it when it is not there."""
        failures = 0
        while not self._stop.is_set():
            try:
                for listing in server.track(self._stop):
                    failures, self._why_not = 0, None
                    self._take(listing, server)
            except AttemptError as error:
                self._lose(error)
            if self._stop.wait(_RETRY_S[min(failures, len(_RETRY_S) - 1)]):
                return
            failures += 1
            try:
                server.start()
            except AttemptError as error:
                self._why_not = error.message

    def _take(self, listing: tuple[Listed, ...], server: Server) -> None:
        places = {(listed.serial, listed.usb_path): listed for listed in listing}
        with self._lock:
            if self._stop.is_set():
                return
            for place, link in self._links.items():
                link.tell(places.get(place))
            for place, listed in places.items():
                if place not in self._links:
                    self._links[place] = link = Link(listed, server.phone, self, self._last_seen_at(listed))
                    link.start()
                self._redial.pop(listed.serial, None)

    def _lose(self, error: AttemptError) -> None:
        """The server is gone. What runs on the phones goes on, so they are not missed at once."""
        now = time.monotonic()
        with self._lock:
            if self._why_not is None and self._links:
                self._server_lost_at = now
                for link in self._links.values():
                    if link.view.presence is Presence.ONLINE and _NETWORK_ADDRESS.fullmatch(link.seen.serial):
                        self._redial[link.seen.serial] = now + _REDIAL_FOR_S
            self._why_not = error.message

    def _dial(self, server: Server) -> None:
        """Call phones of the network that should be there and are not, each on its own: one may take 10 s to fail."""
        while not self._stop.wait(0.5):
            if self._why_not is not None:
                continue
            with self._lock:
                now = time.monotonic()
                self._redial = {address: until for address, until in self._redial.items() if until > now}
                there = {link.seen.serial for link in self._links.values() if link.is_listed()}
                missing = (self._addresses | self._redial.keys()) - there - self._dialling
                self._dialling |= missing
            for address in missing:
                threading.Thread(target=self._call, args=(server, address), name=f"dial {address}", daemon=True).start()

    def _call(self, server: Server, address: str) -> None:
        try:
            server.connect(address)
            pause_s = 1.0  # until the listing shows it
        except AttemptError:
            pause_s = 1.0 if address in self._redial else _DIAL_EVERY_S
        self._stop.wait(pause_s)
        with self._lock:
            self._dialling.discard(address)


def _is_online(view: View, key: str | None) -> bool:
    return view.presence is Presence.ONLINE and view.identity is not None and view.identity.key == key


def _order(link: Link) -> tuple[bool, bool, str]:
    return link.view.presence is not Presence.ONLINE, link.seen.wireless, link.seen.serial
