"""Tools and their libraries on a phone: pushed once, verified there, known by their digests.

A tool's folder is named by the digest of all that lies in it, so that the same binary with other libraries is another
tool. Its last file, `ready`, is written after everything was verified on the phone; without it the folder is nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from workers.android.job_loop import JOB
from workers.android.phone import ROOT, Output, Phone, PhoneLostError
from workers.android.proof import tidy
from workers.android.settings import Delegate, File, Settings, Tool
from workers.android.shell import quote, words
from workers.android.tools.tool import RemoteDelegate, RemoteFiles
from workers.errors import AttemptError, Cause, UnsupportedError

TOOLS = f"{ROOT}/tools"
#: Tools that load vendors' delegates.
_WITH_DELEGATES = ("benchmark-model", "ort-perf-test")
_READY = "ready"
_HELP = "help"
_QUERY_S = 15.0
#: A pushed file must come through at this rate at least, and has this long to begin.
_SLOWEST_BYTES_PER_S = 2e6
_TRANSFER_S = 30.0
#: What a tool may print about itself.
_MOST_HELP_BYTES = 64 << 10
#: How tools list a flag: "--num_threads=-1", "  -iteration (Number ...) type: int32".
_FLAG = re.compile(r"(?:^|[\s\[|])--?([A-Za-z][\w-]{1,60})")
_CANNOT_RUN = re.compile(
    r"CANNOT LINK EXECUTABLE|not executable|Exec format error|Permission denied|No such file|inaccessible or not found",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Provisioned:
    """A tool that stands on a phone, ready to run."""

    tool: Tool
    binary: str
    #: Folder of the binary and of every library that was pushed with it.
    folder: str
    has_libraries: bool
    #: Flags that the binary itself lists.
    flags: frozenset[str]
    #: It was there already.
    was_there: bool

    def files(self, model: str, job: str, delegate: Delegate | None = None) -> RemoteFiles:
        """Where an invocation finds everything.

        Args:
            model: path of the program on the phone.
            job: the job's folder there.
            delegate: the vendor's that was pushed along (`ensure_tool`).
        """
        library = None
        if delegate is not None:
            library = delegate.on_phone or (f"{self.folder}/{delegate.library.name}" if delegate.library else None)
        return RemoteFiles(
            binary=self.binary,
            model=model,
            job=job,
            libraries=self.folder if self.has_libraries else None,
            delegate=RemoteDelegate(library=library, options=delegate.options if delegate else ""),
            flags=self.flags,
        )


def chosen_tool(settings: Settings, name: str, abis: tuple[str, ...]) -> Tool:
    """The build of a tool for a phone.

    Raises:
        UnsupportedError: none is configured for any of its ABIs.
    """
    if (tool := settings.tool(name, abis)) is not None:
        return tool
    wanted = " or ".join(f"[tools.{name}.{abi}]" for abi in abis) or f"[tools.{name}.ABI]"
    where = settings.path or "android.toml"
    raise UnsupportedError(f"no {name} for this phone: {where} has no {wanted} (docs/android.md says how to add one)")


def chosen_delegate(settings: Settings, name: str) -> Delegate | None:
    """A vendor's delegate by the name of the runtime option; None for those that the tool has built in.

    Raises:
        UnsupportedError: it is not configured.
    """
    if name in ("cpu", "gpu", "nnapi", "xnnpack"):
        return None
    if (delegate := settings.delegates.get(name)) is not None:
        return delegate
    where = settings.path or "android.toml"
    raise UnsupportedError(
        f"no {name} delegate: {where} has no [delegates.{name}] (docs/android.md says how to add one)"
    )


def ensure_tool(phone: Phone, tool: Tool, delegate: Delegate | None = None) -> Provisioned:
    """See that a tool, its libraries and a delegate's stand on a phone, verified there; one call where they do.

    Raises:
        PhoneLostError: the phone went.
        PhoneFullError: they do not fit.
        AttemptError: a file is missing here, has another digest here or there, or the tool does not run there.
    """
    files = [tool.binary, *tool.libraries]
    if delegate is not None:
        files += [file for file in (delegate.library, *delegate.libraries) if file is not None]
    folder = f"{TOOLS}/{_digest(files)}"
    binary = f"{folder}/{tool.binary.name}"

    def provisioned(help_text: str, *, was_there: bool) -> Provisioned:
        flags = frozenset(_FLAG.findall(help_text))
        return Provisioned(tool, binary, folder, len(files) > 1, flags, was_there)

    there = phone.run(_look(folder, files), _QUERY_S)
    if there.stdout.startswith("ready\n"):
        return provisioned(there.stdout.partition("\n")[2], was_there=True)
    _verify_here(files)
    _said(
        phone.run(f"mkdir -p {quote(folder)} && rm -f {quote(folder)}/{_READY}", _QUERY_S), "making the tool's folder"
    )
    for file in files:
        _push(phone, file, f"{folder}/{file.name}")
    help_text = _try(phone, tool, binary, folder)
    _said(phone.run(_mark_ready(folder, files), _QUERY_S), "marking the tool as ready")
    return provisioned(help_text, was_there=False)


def _digest(files: Sequence[File]) -> str:
    """Of all that lies in a tool's folder; a tool alone is known by its own digest.

    Raises:
        AttemptError: two of the files would overwrite each other.
    """
    if len({file.name for file in files}) < len(files):
        names = ", ".join(sorted(file.name for file in files))
        raise AttemptError(Cause.USER, "bad_tool", f"two files of a tool have one name: {names}")
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256("\n".join(f"{file.sha256}  {file.name}" for file in files).encode()).hexdigest()


def _names(folder: str, files: Sequence[File]) -> str:
    return words(*(f"{folder}/{file.name}" for file in files))


def _look(folder: str, files: Sequence[File]) -> str:
    """Whether the folder is as it was marked ready: sizes and times of change, which a digest need not prove again."""
    return f"""
marked=$(cat {quote(folder)}/{_READY} 2>/dev/null) || exit 0
[ "$marked" = "$(stat -c '%s %Y %a' {_names(folder, files)} 2>/dev/null)" ] || exit 0
echo ready
cat {quote(folder)}/{_HELP}
"""


def _mark_ready(folder: str, files: Sequence[File]) -> str:
    ready = quote(f"{folder}/{_READY}")
    return f"stat -c '%s %Y %a' {_names(folder, files)} > {ready}.new && mv -f {ready}.new {ready}"


def _verify_here(files: Sequence[File]) -> None:
    for file in files:
        try:
            with file.path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            message = f"{file.path}: {error.strerror or error}"
            raise AttemptError(Cause.USER, "tool_missing", message) from error
        if found != file.sha256:
            message = f"{file.path} has sha256 {found}, and the settings say {file.sha256}: is it another build?"
            raise AttemptError(Cause.USER, "tool_differs", message)


def _push(phone: Phone, file: File, remote: str) -> None:
    """Push a file and prove by its digest there that it arrived whole; only then has it its name."""
    part = f"{remote}.part"
    phone.push(file.path, part, _TRANSFER_S + file.path.stat().st_size / _SLOWEST_BYTES_PER_S)
    script = f"sha256sum {quote(part)} && chmod 755 {quote(part)} && mv -f {quote(part)} {quote(remote)}"
    said = _said(phone.run(script, _TRANSFER_S), f"verifying {file.name}")
    if said.split(maxsplit=1)[:1] != [file.sha256]:
        phone.run(f"rm -f {quote(part)} {quote(remote)}", _QUERY_S)
        message = f"{file.name} arrived on the phone with another digest"
        raise AttemptError(Cause.INFRASTRUCTURE, "transfer_damaged", message)


def _try(phone: Phone, tool: Tool, binary: str, folder: str) -> str:
    """Run a tool with --help, and keep what it says beside it. Some exit with an error after that; they did run.

    Raises:
        AttemptError: it cannot run on this phone.
    """
    help_file = quote(f"{folder}/{_HELP}")
    script = f"""
LD_LIBRARY_PATH={quote(folder)} {words(binary, "--help")} < /dev/null > {help_file}.all 2>&1
code=$?
head -c {_MOST_HELP_BYTES} {help_file}.all > {help_file}
rm -f {help_file}.all
cat {help_file}
exit $code
"""
    said = phone.run(script, _QUERY_S)
    if said.exit_code in (126, 127) or said.exit_code > 128 or _CANNOT_RUN.search(said.stdout):
        why = next((line.strip() for line in said.stdout.splitlines() if line.strip()), f"exit status {said.exit_code}")
        message = f"{tool.name} for {tool.abi} does not run on this phone: {tidy(why)}"
        raise AttemptError(Cause.USER, "tool_does_not_run", message)
    return said.stdout


def _said(output: Output, doing: str) -> str:
    if output.exit_code != 0:
        why = (output.stderr or output.stdout).strip().splitlines()[-1:] or [f"exit status {output.exit_code}"]
        raise AttemptError(Cause.DEVICE, "phone_script", f"{doing} failed on the phone: {tidy(why[0])}")
    return output.stdout


@dataclass(frozen=True)
class Standing:
    """How one tool came to stand on one phone."""

    tool: str
    #: The ABI that it was built for.
    abi: str
    version: str
    #: The vendor's delegate beside it, if any.
    delegate: str | None
    state: Literal["there", "pushed", "failed"]
    why: str | None = None


def provision_phone(phone: Phone, settings: Settings, abis: tuple[str, ...]) -> list[Standing]:
    """Bring everything to a phone that the settings have for it, alone and beside each delegate.

    A tool that fails does not keep the others from being tried.

    Raises:
        PhoneLostError: the phone went.
        AttemptError: a job runs there, which pushing would disturb.
    """
    if phone.run(f"test -e {JOB}/id && cat {JOB}/id", _QUERY_S).exit_code == 0:
        message = "a job is on the phone, and pushing would disturb it: try again later, or drain the device first"
        raise AttemptError(Cause.INFRASTRUCTURE, "phone_busy", message)
    found = []
    for name in settings.tools:
        if (tool := settings.tool(name, abis)) is None:
            continue
        for delegate in (None, *(settings.delegates.values() if name in _WITH_DELEGATES else ())):
            standing = partial(Standing, name, tool.abi, tool.label, delegate.name if delegate else None)
            try:
                was_there = ensure_tool(phone, tool, delegate).was_there
            except PhoneLostError:
                raise
            except AttemptError as error:
                found.append(standing("failed", error.message))
            else:
                found.append(standing("there" if was_there else "pushed"))
    return found


def missing_files(tool: Tool) -> list[Path]:
    """Files of a tool that are not on this host."""
    return [file.path for file in (tool.binary, *tool.libraries) if not file.path.is_file()]
