"""What is set on a phone before a run, and how it is put back: each step as data, its undo on the phone before it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workers.android.phone import ROOT, Phone
from workers.android.scripts import ONE_LINE, lines_of
from workers.android.settings import Prepare
from workers.android.shell import quote
from workers.errors import AttemptError, Cause

#: A handful of words with a phone's services, each up to a second on an old one.
_PREPARE_S = 60.0
#: KEYCODE_SLEEP and KEYCODE_WAKEUP of Android's `KeyEvent`: unlike the power key, they never toggle.
_SLEEP, _WAKE = 223, 224
#: BATTERY_PLUGGED_ of Android's `BatteryManager`, as bits: mains, USB, wireless, dock.
_ANY_CHARGER = 1 | 2 | 4 | 8
#: Of 255: the same on every phone, and bright enough to be read.
_BRIGHTNESS = 128


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to set. All texts are shell; `undo` may use `$old`, what `read` printed before."""

    name: str
    #: Prints the present value as one plain word; anything else it prints says why it cannot be had.
    read: str
    do: str
    undo: str
    #: Shell pattern of the value when it is done; None: it cannot be read back, and `do` must say whether it worked.
    wanted: str | None
    #: The undo proves itself by reading the old value back. Not for what people may change meanwhile.
    proven: bool = True


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What came of it."""

    #: Name to the value that was there before; what was as wanted already is among them.
    done: dict[str, str]
    #: Name to what the phone said instead.
    unsupported: dict[str, str]


def _setting(name: str, namespace: str, key: str, value: int) -> Step:
    where = f"{namespace} {key}"
    return Step(
        name=name,
        read=f"settings get {where}",
        do=f"settings put {where} {value}",
        undo=f'if [ "$old" = null ]; then settings delete {where}; else settings put {where} "$old"; fi',
        wanted=str(value),
    )


#: Android 11 and later, where the phone's maker built it in. It cannot be read, and nobody but a benchmark sets it:
#: what was before is "off". Turning it off first shows whether the phone knows it, and so that the undo will work.
FIXED_PERFORMANCE = Step(
    name="fixed_performance",
    read='said=$(cmd power set-fixed-performance-mode-enabled false 2>&1) && echo off || echo "$said"',
    do="cmd power set-fixed-performance-mode-enabled true",
    undo="cmd power set-fixed-performance-mode-enabled false",
    wanted=None,
    proven=False,
)
#: Android 11 and later. A phone that never had it on has no such setting.
AIRPLANE = Step(
    name="airplane",
    read='value=$(settings get global airplane_mode_on); [ null != "$value" ] || value=0; echo "$value"',
    do="cmd connectivity airplane-mode enable",
    undo='if [ "$old" = 1 ]; then how=enable; else how=disable; fi; cmd connectivity airplane-mode $how',
    wanted="1",
)
_WAKEFULNESS = "awake=$(dumpsys power | grep -m 1 mWakefulness=); echo ${awake##*=}"
_SCREEN_OFF = (
    _setting("stay_awake", "global", "stay_on_while_plugged_in", 0),
    Step(
        name="screen",
        read=_WAKEFULNESS,
        do=f"input keyevent {_SLEEP}",
        undo=f'[ "$old" != Awake ] || input keyevent {_WAKE}',
        wanted="Asleep|Dozing",
        proven=False,
    ),
)
_SCREEN_ON = (
    _setting("stay_awake", "global", "stay_on_while_plugged_in", _ANY_CHARGER),
    _setting("brightness_mode", "system", "screen_brightness_mode", 0),
    _setting("brightness", "system", "screen_brightness", _BRIGHTNESS),
    Step(
        name="screen",
        read=_WAKEFULNESS,
        do=f"input keyevent {_WAKE}",
        undo=f'[ "$old" = Awake ] || input keyevent {_SLEEP}',
        wanted="Awake",
        proven=False,
    ),
)


def steps(wanted: Prepare) -> tuple[Step, ...]:
    """The steps that the settings ask for, in the order in which they are made."""
    airplane = (AIRPLANE,) if wanted.airplane else ()
    screen = {"off": _SCREEN_OFF, "on": _SCREEN_ON, "leave": ()}[wanted.screen]
    return (*airplane, *screen, *((FIXED_PERFORMANCE,) if wanted.fixed_performance else ()))


def over_radio(serial: str) -> bool:
    """Whether adb reaches the phone through the network, by the look of adb's serial: HOST:PORT, or a name of mDNS.

    A loopback address is a forwarded cable or a phone that is not one.
    """
    host, colon, _ = serial.rpartition(":")
    return serial.endswith("._tcp") or (bool(colon) and host not in ("localhost", "127.0.0.1", "[::1]"))


def prepare(phone: Phone, wanted: Sequence[Step], required: Collection[str] = ()) -> Prepared:
    """Make the preparations, in one call. Of each, the undo lies on the phone before it is made.

    What was prepared before and not undone keeps its first undo: that one knows the true old value.

    Raises:
        PhoneLostError: it went meanwhile; `workers.android.leftovers.clean` undoes what was made.
        AttemptError: the phone cannot do what is required; the rest was made and is still to be undone.
    """
    refused = {}
    if over_radio(phone.serial) and any(step.name == AIRPLANE.name for step in wanted):
        refused[AIRPLANE.name] = "adb reaches this phone through its radio: airplane mode would cut it off"
    chosen = [step for step in wanted if step.name not in refused]
    said = lines_of(phone.run(_script(chosen), _PREPARE_S), "preparing") if chosen else []
    done = {}
    for line in said:
        result, _, rest = line.partition(" ")
        name, _, text = rest.partition(" ")
        if result == "done":
            done[name] = text
        elif result == "unsupported":
            refused[name] = text.strip() or "the phone said nothing"
    if missing := sorted(set(required) - set(done)):
        why = "; ".join(f"{name}: {refused.get(name, 'not asked for')}" for name in missing)
        raise AttemptError(Cause.DEVICE, "cannot_prepare", f"the phone cannot be prepared as configured: {why}")
    return Prepared(done=done, unsupported=refused)


def undo(phone: Phone) -> list[str]:
    """Undo whatever was prepared, the last first; returns what was undone. Repeat it as you like.

    Raises:
        PhoneLostError: it went meanwhile; what is left is undone on the next contact.
        AttemptError: an undo failed and is still there; the others are done.
    """
    said = lines_of(phone.run(f"{UNDO_ALL}\ncd {ROOT} 2>/dev/null || exit 0\nundo_all", _PREPARE_S), "undoing")
    if stuck := [line.removeprefix("stuck ").strip() for line in said if line.startswith("stuck ")]:
        raise undo_failed(stuck)
    return [line.removeprefix("undone ") for line in said]


def undo_failed(stuck: Sequence[str]) -> AttemptError:
    """A phone that cannot be put back is not as its results say."""
    return AttemptError(Cause.DEVICE, "undo_failed", f"a preparation could not be undone: {'; '.join(stuck)}")


#: `undo_all` runs in ROOT. Names there are ours: no blanks.
UNDO_ALL = (
    ONE_LINE
    + r"""
undo_all() {
  [ ! -e undo/.new ] || rm -f undo/.new
  todo= stuck=
  for file in undo/*; do [ ! -e "$file" ] || todo="${file#undo/} $todo"; done
  for file in $todo; do
    if said=$(. "./undo/$file" 2>&1 < /dev/null); then rm -f "undo/$file" && echo "undone ${file#*-}"
    else stuck=stuck; echo "stuck ${file#*-} $(one_line "$said")"; fi
  done
}
"""
)

_HEAD = f"""
{ONE_LINE}
mkdir -p {ROOT}/undo && cd {ROOT} || exit 70
"""


def _script(chosen: Sequence[Step]) -> str:
    return _HEAD + "".join(_one(number, step) for number, step in enumerate(chosen, 10))


def _one(number: int, step: Step) -> str:
    """The script of one step: read, write the undo, do, read back; put back at once when it did not work."""
    as_before = '[ "$(read_it)" = "$old" ]'
    # What is as it was needs no undo: it was never done, and on a phone that cannot do it the undo would fail for ever.
    undo_text = f"{as_before} || {{ {step.undo}; }}" if step.wanted else f"{{ {step.undo}; }}"
    if step.proven:
        undo_text += f" && {as_before}"
    undo_text = f"read_it() {{ {step.read}; }}\n{undo_text}\n"
    works = f"case $(read_it 2>&1) in {step.wanted}) true ;; *) false ;; esac" if step.wanted else "[ $code -eq 0 ]"
    already = f"case $old in {step.wanted}) true ;; *) false ;; esac" if step.wanted else "false"
    tries = 0 if step.wanted else 5
    return f"""
read_it() {{ {step.read}; }}
works() {{ {works}; }}
old=$(read_it 2>&1 < /dev/null)
case $old in
  '' | *[!A-Za-z0-9_.-]*) echo "unsupported {step.name} $(one_line "$old")" ;;
  *) if {already}; then echo "done {step.name} $old"; else
    file=
    for older in undo/*-{step.name}; do [ -e "$older" ] && file=$older; done
    if [ -z "$file" ]; then
      file=undo/{number}-{step.name}
      printf 'old=%s\\n%s' "$old" {quote(undo_text)} > undo/.new && mv -f undo/.new $file || exit 70
    fi
    said=$({{ {step.do}; }} 2>&1 < /dev/null); code=$?
    tries={tries}; while ! works && [ $tries -lt 5 ]; do tries=$((tries + 1)); sleep 0.1; done
    if works; then echo "done {step.name} $old"; else
      (. ./$file) > /dev/null 2>&1 < /dev/null && rm -f $file
      echo "unsupported {step.name} $(one_line "$said")"
    fi
  fi ;;
esac
"""
