"""/system/bin of a played phone: links to the host's programs that toybox has too, and stubs of Android's own.

Whatever a script asks for beyond these is not found, as on a phone. The stubs keep what they are told in /fake, and
write down each call in /fake/actions.
"""

from __future__ import annotations

import shutil
from pathlib import Path

#: What of toybox (and mksh) Android 10 and later have; scripts may use no other programs.
_APPLETS = (
    "awk base64 basename cat chmod chown cmp comm cp cut date dd df diff dirname du echo env expr false file find free "
    "getconf grep head hostname id kill ln ls md5sum mkdir mkfifo mktemp mount mv nice nl nohup nproc od paste patch "
    "pgrep pidof printenv printf ps pwd readlink realpath renice rm rmdir sed seq setsid sh sha1sum sha256sum sleep "
    "sort split stat sync tail tar taskset tee test time timeout touch tr true truncate tty umount uname uniq uptime "
    "usleep wc which whoami xargs yes"
)

_RECORD = 'echo "${0##*/} $*" >> /fake/actions\n'

_GETPROP = r"""
if [ $# = 0 ]; then sed 's/^\([^=]*\)=\(.*\)$/[\1]: [\2]/' /fake/properties; exit; fi
while IFS= read -r line; do
  case $line in "$1="*) printf '%s\n' "${line#*=}"; exit ;; esac
done < /fake/properties
echo "$2"
"""

_SETPROP = (
    _RECORD
    + r"""
grep -v "^$1=" /fake/properties > /fake/properties.new
echo "$1=$2" >> /fake/properties.new
cat /fake/properties.new > /fake/properties
"""
)

#: Faked battery values stay until `reset`, through every change of the real ones.
_BATTERY = r"""
battery() {
  case $1 in
    -h) cat /fake/battery_help; return ;;
    "") ;;
    *) echo "battery $*" >> /fake/actions ;;
  esac
  case $1 in
    set)
      case $2 in
        ac) key="AC powered" ;; usb) key="USB powered" ;; wireless) key="Wireless powered" ;; *) key=$2 ;;
      esac
      value=$3
      case $2:$3 in ac:1|usb:1|wireless:1) value=true ;; ac:0|usb:0|wireless:0) value=false ;; esac
      printf '%s\n' "s/^  $key: .*/  $key: $value/" >> /fake/battery_faked ;;
    unplug) printf '%s\n' 's/^  \(.* powered\): .*/  \1: false/' >> /fake/battery_faked ;;
    suspend_input)
      if [ -e /fake/can_suspend_input ]; then touch /fake/input_suspended
      else echo "Unknown command: $1"; return 255; fi ;;
    reset) rm -f /fake/battery_faked /fake/input_suspended ;;
    *)
      if [ -e /fake/battery_faked ]; then
        exec sed -f /fake/battery_faked -e '1a\  (UPDATES STOPPED -- use '"'reset'"' to restart)' /fake/dumpsys/battery
      else
        exec cat /fake/dumpsys/battery
      fi ;;
  esac
}
"""

_DUMPSYS = (
    _BATTERY
    + r"""
service=$1
[ $# -gt 0 ] && shift
case $service in
  battery) battery "$@" ;;
  power) read -r awake < /fake/wakefulness; read -r stays < /fake/stay_on
    echo "POWER MANAGER (dumpsys power)"; echo "  mWakefulness=$awake"; echo "  mStayOn=$stays" ;;
  *)
    if [ -e "/fake/dumpsys/$service" ]; then exec cat "/fake/dumpsys/$service"
    else echo "Can't find service: $service"; exit 1; fi ;;
esac
"""
)

_CMD = (
    _BATTERY
    + r"""
airplane=/fake/settings/global/airplane_mode_on
service=$1
[ $# -gt 0 ] && shift
case $service in
  battery) battery "$@" ;;
  power)
    echo "cmd power $*" >> /fake/actions
    case $1 in
      set-fixed-performance-mode-enabled)
        if [ -e /fake/no_fixed_performance ]; then
          echo "Failed to set FIXED_PERFORMANCE mode"
          echo "This is likely caused by Power HAL not supporting FIXED_PERFORMANCE mode"
          exit 255
        fi
        echo "$2" > /fake/fixed_performance ;;
    esac ;;
  connectivity)
    case $1:$2 in
      airplane-mode:enable) echo "cmd connectivity $*" >> /fake/actions; echo 1 > $airplane ;;
      airplane-mode:disable) echo "cmd connectivity $*" >> /fake/actions; echo 0 > $airplane ;;
      airplane-mode:) if [ "$(cat $airplane)" = 1 ]; then echo enabled; else echo disabled; fi ;;
    esac ;;
  thermalservice) exec cat /fake/dumpsys/thermalservice ;;
  *) echo "cmd $service $*" >> /fake/actions; echo "cmd: Can't find service: $service"; exit 20 ;;
esac
"""
)

_SETTINGS = (
    r"""
case $1 in
  get)
    value=null
    [ ! -e "/fake/settings/$2/$3" ] || IFS= read -r value < "/fake/settings/$2/$3"
    printf '%s\n' "$value"; exit ;;
esac
"""
    + _RECORD
    + r"""
case $1 in
  put) mkdir -p "/fake/settings/$2"; echo "$4" > "/fake/settings/$2/$3" ;;
  delete) if [ -e "/fake/settings/$2/$3" ]; then rm "/fake/settings/$2/$3"; echo "Deleted 1 rows"
    else echo "Deleted 0 rows"; fi ;;
esac
"""
)

_INPUT = (
    _RECORD
    + r"""
case $1:$2 in
  keyevent:223|keyevent:KEYCODE_SLEEP|keyevent:SLEEP) echo Asleep > /fake/wakefulness ;;
  keyevent:224|keyevent:KEYCODE_WAKEUP|keyevent:WAKEUP) echo Awake > /fake/wakefulness ;;
  keyevent:26|keyevent:KEYCODE_POWER|keyevent:POWER)
    if [ "$(cat /fake/wakefulness)" = Awake ]; then echo Asleep > /fake/wakefulness
    else echo Awake > /fake/wakefulness; fi ;;
esac
"""
)

_SVC = (
    _RECORD
    + r"""
case $1:$2 in
  power:stayon) echo "$3" > /fake/stay_on; [ "$3" = false ] || echo Awake > /fake/wakefulness ;;
esac
"""
)

_STUBS = {
    "getprop": _GETPROP,
    "setprop": _SETPROP,
    "dumpsys": _DUMPSYS,
    "cmd": _CMD,
    "settings": _SETTINGS,
    "input": _INPUT,
    "svc": _SVC,
    "am": _RECORD,
    "pm": _RECORD,
    "wm": _RECORD,
    "logcat": "echo '--------- beginning of main'\n",
}


def write_tools(folder: Path) -> None:
    """Make the /system/bin that all phones of a rack share."""
    folder.mkdir()
    for name in _APPLETS.split():
        if (found := shutil.which(name)) is not None:
            (folder / name).symlink_to(found)
    for name, script in _STUBS.items():
        stub = folder / name
        stub.write_text(f"#!/system/bin/sh\n{script}")
        stub.chmod(0o755)
