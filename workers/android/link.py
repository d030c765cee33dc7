"""One connection to one phone: a thread that finds out who is there, and keeps knowing that it is alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from workers.android.history import PhoneHistory
from workers.android.identity import APART_SCRIPT, IDENTITY_SCRIPT, Identity, distinction, read_identity
from workers.android.phone import Phone, PhoneLostError
from workers.android.presence import Listed, Presence, remedy
from workers.android.snapshot import FULL_EVERY, script_for
from workers.clock import steady
from workers.errors import AttemptError

#: One heartbeat a second; it is the telemetry at the same time.
_BEAT_S = 1.0
#: A connection that is not the one in use is only looked after.
_SPARE_BEAT_S = 3.0
#: A phone whose cores all work for a benchmark takes its time. With the probe after it: silence shows within 10 s.
_SNAPSHOT_S = 5.0
_PROBE_S = 3.5
#: After a snapshot that took too long, none for so long: the phone is not to be buried under scripts.
_RELIEF_S = 5.0
_IDENTIFY_S = 10.0
#: Looked again so soon at a phone that does not answer, is not up yet, or that something keeps from us.
_SILENT_S, _BOOTING_S, _REFUSED_S = 1.5, 1.0, 5.0
#: adb makes connections anew all the time; a gap so short is not told.
PATIENCE_S = 0.7
_PROBE_SCRIPT = "cat /proc/sys/kernel/random/boot_id"


class ClosablePhone(Phone, Protocol):
    """A way to a phone that can be given up."""

    def close(self) -> None:
        """End every call through it now, and refuse those to come."""

    def reboot(self) -> None:
        """Tell it to reboot.

        Raises:
            PhoneLostError: it could not be told.
        """


@dataclass(frozen=True, slots=True)
class View:
    """What is known of the phone at the end of a link."""

    presence: Presence
    remedy: str | None
    #: None until it was identified once.
    identity: Identity | None = None
    #: None unless it is online.
    phone: ClosablePhone | None = None


class Book(Protocol):
    """Where links tell what they see, and hear of each other."""

    def shown(self, link: Link) -> None:
        """A link's view has changed."""

    def is_shared(self, link: Link, identity: Identity) -> bool:
        """Whether two running phones claim this identity; both must be told apart then."""

    def meeting(self, identity: Identity) -> AbstractContextManager[bool]:
        """Alone with a phone, whatever connections it has; says whether it was met on another already."""

    def met(self, identity: Identity, phone: Phone) -> None:
        """Do what is to be done to a phone that came, before it is online.

        Raises:
            PhoneLostError: it went meanwhile.
            AttemptError: it cannot be used from here, and why.
        """

    def history_of(self, identity: Identity) -> PhoneHistory:
        """Where its snapshots go."""

    def leads(self, link: Link) -> bool:
        """Whether this is the connection in use, of all that lead to its phone."""

    def patience_s(self) -> float:
        """How long a phone may be away before anyone is told."""

    def over(self, link: Link) -> bool:
        """Forget a link whose phone went; False when adb lists it again already."""

    def failed(self, error: BaseException) -> None:
        """A link's thread died of a mistake of ours."""


class _NotUpError(Exception):
    """Nothing can be done with the phone yet."""

    def __init__(self, presence: Presence, remedy: str | None) -> None:
        super().__init__(remedy)
        self.presence, self.remedy = presence, remedy


class Link:
    """Its thread blocks on this phone alone: no other waits for it."""

    def __init__(
        self, listed: Listed, reach: Callable[[Listed], ClosablePhone], book: Book, identity: Identity | None
    ) -> None:
        """Nothing is asked before `start`.

        Args:
            listed: what adb says of it.
            reach: makes the way to it.
            book: where to tell.
            identity: who was last seen here, for a phone that cannot say so itself at the moment.
        """
        self._reach, self._book = reach, book
        self._changed = threading.Condition()
        self._listed: Listed | None = listed
        self._stopping = False
        self._again = False
        #: It was away since it was last found to be the same; perhaps too short for the thread to see.
        self._was_away = False
        self._beats = 0
        self._relief_until = 0.0
        #: The way to the phone that the thread uses now.
        self._way: ClosablePhone | None = None
        #: The last that adb said of it while it was there.
        self.seen = listed
        self.view = View(Presence.CONNECTING, remedy(Presence.CONNECTING), identity)
        self._thread = threading.Thread(target=self._run, name=f"phone {listed.serial}"[:40], daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def tell(self, listed: Listed | None) -> None:
        """What adb says of it now; None when it is not listed any more."""
        with self._changed:
            if listed != self._listed:
                self._listed = listed
                self.seen = listed or self.seen
                self._was_away |= not self._is_online()
                self._changed.notify_all()

    def is_listed(self) -> bool:
        """Whether adb knows it."""
        return self._listed is not None

    def identify_again(self) -> None:
        """Another phone claims its identity: find out anew who it is."""
        with self._changed:
            self._again = True
            self._changed.notify_all()

    def boot_id_now(self) -> str | None:
        """Asked of the phone itself; None when it does not answer."""
        phone = self.view.phone
        try:
            return phone.run(_PROBE_SCRIPT, _PROBE_S).stdout.strip() or None if phone is not None else None
        except PhoneLostError:
            return None

    def stop(self) -> None:
        """Let the thread end; what it asks the phone now is cut off."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if (way := self._way) is not None:
            way.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # Below: the thread.

    def _run(self) -> None:
        try:
            while not self._stopping:
                listed = self._listed
                if listed is None:
                    self._show(Presence.OFFLINE, remedy(Presence.ABSENT))
                    if self._book.over(self):
                        return
                elif listed.presence is not Presence.ONLINE:
                    self._again = False
                    self._show(listed.presence, remedy(listed.presence))
                    self._wait(listed, None)
                else:
                    self._attend(listed)
        except BaseException as error:  # the agent's next poll says so: no side loop dies in silence
            self._book.failed(error)
            raise

    def _attend(self, listed: Listed) -> None:
        """Everything with a phone that adb calls online, until it goes."""
        phone = self._way = self._reach(listed)
        identity = None
        try:
            identity = self._identify(phone, listed)
            if self._meet(phone, identity):
                self._beat(phone, identity)
        except _NotUpError as error:
            self._show(error.presence, error.remedy)
            self._wait(listed, _BOOTING_S)
        except PhoneLostError as error:
            if self._is_online():  # else adb knows better what it is, and the caller shows that
                self._show(Presence.OFFLINE, f"adb lists the phone, but it does not answer ({error.message[:200]})")
                self._wait(listed, _SILENT_S)
        except AttemptError as error:
            self._show(Presence.OFFLINE, error.message[:300], identity)
            self._wait(listed, _REFUSED_S)
        finally:
            phone.close()

    def _identify(self, phone: Phone, listed: Listed) -> Identity:
        self._again = self._was_away = False
        phone.run(_PROBE_SCRIPT, _PROBE_S)  # one that is silent is not given the longer time
        identity = read_identity(phone.run(IDENTITY_SCRIPT, _IDENTIFY_S).stdout)
        if not identity.booted:
            raise _NotUpError(Presence.BOOTING, remedy(Presence.BOOTING))
        if identity.key is None or self._book.is_shared(self, identity):
            by = distinction(phone.run(APART_SCRIPT, _IDENTIFY_S).stdout, listed.usb_path)
            if by is None:
                raise _NotUpError(
                    Presence.UNKNOWN,
                    "its serial number is not its own, and nothing else tells it from others: connect it by USB",
                )
            identity = identity.told_apart(by)
        return identity

    def _meet(self, phone: ClosablePhone, identity: Identity) -> bool:
        """Show it online; False where it must be identified again, for another phone has that key."""
        with self._book.meeting(identity) as already:
            # Once more, now that nobody else is met under this key: two that came in one moment did not see each other.
            if identity.note is None and self._book.is_shared(self, identity):
                return False
            if not already:
                self._book.met(identity, phone)
            self._show(Presence.ONLINE, None, identity, phone)
            return True

    def _beat(self, phone: Phone, identity: Identity) -> None:
        """Ask once a second, until it must be identified again.

        Raises:
            PhoneLostError: it is gone for longer than is normal.
        """
        history = self._book.history_of(identity)
        self._beats = 0  # the first look is full: what was known of its battery and heat is old
        while not (self._stopping or self._again):
            began = time.monotonic()
            leads = self._book.leads(self)
            try:
                if leads and began >= self._relief_until:
                    self._take_snapshot(phone, history)
                else:
                    phone.run(_PROBE_SCRIPT, _PROBE_S)
            except PhoneLostError as error:
                self._outlast(error, phone, identity)
            self._wait(self._listed, began + (_BEAT_S if leads else _SPARE_BEAT_S) - time.monotonic())
            if self._was_away:
                self._outlast(PhoneLostError(f"{phone.serial} is not there"), phone, identity)

    def _take_snapshot(self, phone: Phone, history: PhoneHistory) -> None:
        began = steady()
        try:
            output = phone.run(script_for(self._beats), _SNAPSHOT_S)
        except PhoneLostError as error:
            if error.code == "device_no_answer":
                self._relief_until = time.monotonic() + _RELIEF_S
            raise
        history.add(output.stdout, (began + steady()) / 2, full=self._beats % FULL_EVERY == 0)
        self._beats += 1

    def _outlast(self, error: PhoneLostError, phone: Phone, identity: Identity) -> None:
        """Wait for a phone that went to be back, the same and not rebooted, before anyone needs to know.

        Raises:
            PhoneLostError: it is not.
        """
        began = time.monotonic()
        while not self._stopping:
            if self._is_online():
                self._was_away = False
                try:
                    boot_id = phone.run(_PROBE_SCRIPT, _PROBE_S).stdout.strip() or None
                except PhoneLostError as lost:
                    error = lost
                else:
                    if boot_id == identity.boot_id:
                        self._beats = 0
                        return
                    raise PhoneLostError(f"{phone.serial} was restarted")
            if (left_s := began + self._book.patience_s() - time.monotonic()) <= 0:
                raise error
            self._wait(self._listed, min(left_s, 0.1))

    def _is_online(self) -> bool:
        listed = self._listed
        return listed is not None and listed.presence is Presence.ONLINE

    def _wait(self, listed: Listed | None, timeout_s: float | None) -> None:
        """Until adb says something else of it than `listed`, or the time is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self._again or self._listed != listed,
                timeout=None if timeout_s is None else max(0.0, timeout_s),
            )

    def _show(
        self,
        presence: Presence,
        remedy: str | None,
        identity: Identity | None = None,
        phone: ClosablePhone | None = None,
    ) -> None:
        view = View(presence, remedy, identity or self.view.identity, phone)
        if view != self.view:
            self.view = view
            self._book.shown(self)
