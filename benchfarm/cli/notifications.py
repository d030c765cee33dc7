"""`benchfarm notifications`: what people are told, and whether it reached them; and the digest of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchfarm.cli.output import MOST, Json, print_json

if TYPE_CHECKING:
    from exporters.notifiers.channel import Channel
    from exporters.notifiers.settings import Settings
    from scheduler.farm import Farm
    from scheduler.notifications.delivery import Message

app = typer.Typer(
    help="Notifications: incidents, digests and trouble, told to the channels of notifications.toml.",
    no_args_is_help=True,
)
State = Literal["pending", "sent", "given_up"]


def _farm() -> Farm:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home())


@app.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only messages in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List messages, newest first: to which channel, how often it was tried, and why it did not arrive."""
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.notification_tables import messages_table
    from exporters.tables import show
    from scheduler.notifications.outbox import messages

    with reading(_farm().engine) as connection:
        found = messages(connection, state=state, limit=limit)
    print_json(found) if json else show(messages_table(found, utc_now()))


@app.command("test")
def try_out(
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL...]", help="Channels of notifications.toml; all of them.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read the settings, and send nothing.")] = False,
    json: Json = False,
) -> None:
    """Send a test message to channels, once and now. Exit codes: 0 all arrived, 1 one did not, 2 wrong settings."""
    from benchfarm.config import load_home
    from exporters.notification_tables import tried_table
    from exporters.notifiers.settings import NAME, read_settings
    from exporters.tables import show

    home = load_home()
    chosen = _chosen(read_settings(home), channels or [])
    if not chosen:
        typer.echo(f"no channels: there are none in {home.path / NAME}") if not json else print_json([])
        return
    if dry_run:
        found = [{"channel": one.name, "kind": type(one).__name__, "warnings": one.warnings()} for one in chosen]
        _show_channels(found, json)
        return
    tried = [{"channel": one.name, "error": _try(one), "warnings": one.warnings()} for one in chosen]
    print_json(tried) if json else show(tried_table(tried))
    if any(one["error"] is not None for one in tried):
        raise typer.Exit(1)


@app.command("retry")
def retry(
    messages: Annotated[
        list[int] | None,
        typer.Argument(metavar="[MESSAGE...]", min=1, max=MOST, help="Numbers of messages; all that failed so far."),
    ] = None,
    json: Json = False,
) -> None:
    """Have messages tried again now, for another day: by the farm's service, or here while it is not up.

    Exit codes: 0 they arrived or the service has them, 1 one did not arrive, 2 there is no such message.
    """
    from device_registry.database import reading, writing
    from device_registry.tables import utc_now
    from exporters.notifiers.deliver import deliver_unless_up
    from scheduler.notifications import outbox

    farm, now = _farm(), utc_now()
    with writing(farm.engine) as connection:
        again = outbox.retry(connection, list(dict.fromkeys(messages or [])), now)
    here = bool(again) and deliver_unless_up(farm.engine, farm.home, now)
    with reading(farm.engine) as connection:
        found = outbox.messages(connection, ids=again)
    if json:
        print_json([{name: row[name] for name in ("id", "channel", "key", "state", "error")} for row in found])
    elif not found:
        typer.echo("no message failed")
    for row in [] if json else found:
        typer.echo(f"message {row['id']} for {row['channel']}: {row['state']}{_because(row)}")
    if here and any(row["state"] != "sent" for row in found):
        raise typer.Exit(1)


def digest(
    run: Annotated[int, typer.Argument(min=1, max=MOST, help="Number of the run; see benchfarm sweep list.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    json: Json = False,
) -> None:
    """Show what a run of a sweep found: regressed, improved, failed, missing, and what is too noisy to see 5 %.

    Exit codes: 0 done, 2 there is no such run, or it is of no sweep.
    """
    from device_registry.database import reading
    from device_registry.errors import UsageError
    from device_registry.tables import utc_now
    from exporters.notifiers import text
    from exporters.notifiers.settings import read_settings
    from exporters.notifiers.words import digest_words
    from scheduler.notifications.digest import digest_document

    farm = _farm()
    with reading(farm.engine) as connection:
        found = digest_document(connection, run, utc_now())
    if found["run"]["sweep"] is None:
        by = f": the farm made it by itself ({found['run']['purpose']})" if found["run"]["purpose"] else ""
        raise UsageError(f"run {run} is no run of a sweep{by}; benchfarm jobs list --run {run} shows it")
    if json:
        print_json(found)
        return
    words = digest_words(found, read_settings(farm.home).links)
    typer.echo(text.markdown(words) if markdown else text.text(words), nl=False)


def _because(row: Any) -> str:
    return f", {row['error']}" if row["error"] else ""


def _chosen(settings: Settings, names: list[str]) -> list[Channel]:
    from device_registry.errors import UsageError

    for name in names:
        if name not in settings.channels:
            known = ", ".join(settings.channels) or "none"
            raise UsageError(f"there is no channel {name} in notifications.toml; it has: {known}")
    return [settings.channels[name] for name in dict.fromkeys(names or settings.channels)]


def _show_channels(found: list[dict[str, Any]], json: bool) -> None:
    if json:
        print_json(found)
        return
    for one in found:
        typer.echo(f"{one['channel']}: {one['kind']}" + "".join(f"\n  {warning}" for warning in one["warnings"]))


def _try(channel: Channel) -> str | None:
    """Send a test; why it did not arrive."""
    from exporters.notifiers.channel import failure

    try:
        channel.send(_test_message(channel.name))
    except Exception as error:
        return str(failure(error))
    return None


def _test_message(channel: str) -> Message:
    from device_registry.tables import utc_now
    from scheduler.notifications.delivery import Message

    return Message(
        id=0, channel=channel, key="test", kind="test", document={}, incident_id=None, created_at=utc_now(), attempt=1
    )
