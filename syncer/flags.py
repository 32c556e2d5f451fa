"""What can be written on a command line: each sub-command with its flags, and the `Order` that they come to.

Credentials have no flag, on purpose.  Only who has something to parse imports this: Typer takes its time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final

import typer
import typer.exceptions

from syncer import commands
from syncer.commands import Call, Order
from syncer.errors import ConfigurationError
from syncer.report import Outcome

_EPILOG: Final = "Everything can be set by environment variables; credentials only there. See docs/settings.md."

app = typer.Typer(
    help="Bring a model to where a cluster serves it, prove every byte, and seal it.  Without a command: sync.",
    epilog=_EPILOG,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Src = Annotated[
    str | None, typer.Argument(metavar="[SRC]", help="s3://bucket/folder/, a path, oci://…", show_default=False)
]
Dest = Annotated[
    str | None, typer.Argument(metavar="[DEST]", help="s3://bucket/prefix/, a path, oci://…", show_default=False)
]
Verbose = Annotated[
    int, typer.Option("-v", "--verbose", count=True, help="Log more; up to -vvvvv.", show_default=False)
]
SrcEndpoint = Annotated[str | None, typer.Option("-s", "--src-endpoint", help="S3 endpoint of the source.")]
DestEndpoint = Annotated[str | None, typer.Option("-d", "--dest-endpoint", help="S3 endpoint of the destination.")]
SrcRegion = Annotated[str | None, typer.Option("--src-region", help="Region of the source.")]
DestRegion = Annotated[str | None, typer.Option("--dest-region", help="Region of the destination.")]
SrcValidate = Annotated[
    bool | None, typer.Option("--src-validate/--no-src-validate", help="Check the source's TLS certificate.")
]
DestValidate = Annotated[
    bool | None, typer.Option("--dest-validate/--no-dest-validate", help="Check the destination's TLS certificate.")
]
TlsVerify = Annotated[
    bool | None, typer.Option("--tls-verify/--no-tls-verify", help="Check the certificates of image registries.")
]
MaxThreads = Annotated[str | None, typer.Option("--max-threads-per-file", help="Parts of one file under way at once.")]
MaxFiles = Annotated[str | None, typer.Option("--max-files", help="Files under way at once.")]
ChunkSize = Annotated[str | None, typer.Option("--chunk-size", help="Size of one part, such as 15MiB.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Copy every file, also those that are there already.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _root(
    *, version: Annotated[bool, typer.Option("-V", "--version", help="Print the version and leave.")] = False
) -> None:
    """Flags of the program itself; `run` has dealt with the version before."""


@app.command()
def sync(
    *,
    source: Src = None,
    destination: Dest = None,
    verbose: Verbose = 0,
    src_endpoint: SrcEndpoint = None,
    dest_endpoint: DestEndpoint = None,
    src_region: SrcRegion = None,
    dest_region: DestRegion = None,
    src_validate: SrcValidate = None,
    dest_validate: DestValidate = None,
    tls_verify: TlsVerify = None,
    max_threads_per_file: MaxThreads = None,
    max_files: MaxFiles = None,
    chunk_size: ChunkSize = None,
    force: Force = False,
) -> Order:
    """Copy what is missing or changed, prove it, and seal the destination."""
    from syncer.settings import CommandLine

    said = CommandLine(
        source=source,
        destination=destination,
        src_endpoint=src_endpoint,
        dest_endpoint=dest_endpoint,
        src_region=src_region,
        dest_region=dest_region,
        src_validate=src_validate,
        dest_validate=dest_validate,
        tls_verify=tls_verify,
        max_threads_per_file=max_threads_per_file,
        max_files=max_files,
        chunk_size=chunk_size,
        force=force or None,
    )
    return commands.to_sync(said, verbosity=verbose)


@app.command()
def plan(
    *,
    source: Src = None,
    destination: Dest = None,
    verbose: Verbose = 0,
    src_endpoint: SrcEndpoint = None,
    dest_endpoint: DestEndpoint = None,
    src_region: SrcRegion = None,
    dest_region: DestRegion = None,
    src_validate: SrcValidate = None,
    dest_validate: DestValidate = None,
    tls_verify: TlsVerify = None,
    max_threads_per_file: MaxThreads = None,
    max_files: MaxFiles = None,
    chunk_size: ChunkSize = None,
    force: Force = False,
    as_json: AsJson = False,
) -> Order:
    """Print what sync would do now; change nothing (but a one-time passcode of IBM COS is spent by it)."""
    from syncer.settings import CommandLine

    said = CommandLine(
        source=source,
        destination=destination,
        src_endpoint=src_endpoint,
        dest_endpoint=dest_endpoint,
        src_region=src_region,
        dest_region=dest_region,
        src_validate=src_validate,
        dest_validate=dest_validate,
        tls_verify=tls_verify,
        max_threads_per_file=max_threads_per_file,
        max_files=max_files,
        chunk_size=chunk_size,
        force=force or None,
    )

    def work(call: Call) -> Outcome:
        return commands.plan(call, as_json=as_json)

    return Order(work, said, verbosity=verbose, reads=True)


@app.command()
def verify(
    *,
    destination: Dest = None,
    verbose: Verbose = 0,
    dest_endpoint: DestEndpoint = None,
    dest_region: DestRegion = None,
    dest_validate: DestValidate = None,
    tls_verify: TlsVerify = None,
    max_threads_per_file: MaxThreads = None,
    max_files: MaxFiles = None,
) -> Order:
    """Read everything at the destination again and name each wrong, missing or extra file (exit code 65)."""
    from syncer.settings import CommandLine

    said = CommandLine(
        destination=destination,
        dest_endpoint=dest_endpoint,
        dest_region=dest_region,
        dest_validate=dest_validate,
        tls_verify=tls_verify,
        max_threads_per_file=max_threads_per_file,
        max_files=max_files,
    )
    return Order(commands.verify, said, verbosity=verbose)


@app.command()
def wait(
    *,
    destination: Dest = None,
    verbose: Verbose = 0,
    dest_endpoint: DestEndpoint = None,
    dest_region: DestRegion = None,
    dest_validate: DestValidate = None,
    tls_verify: TlsVerify = None,
    source: Annotated[str, typer.Option("--source", help="Only a seal of this source counts.")] = "",
    revision: Annotated[str, typer.Option("--revision", help="Only a seal of this revision counts.")] = "",
    deadline: Annotated[str, typer.Option("--deadline", help="How long to wait, such as 2h; else for ever.")] = "",
) -> Order:
    """Wait until the destination is sealed."""
    from syncer.settings import CommandLine

    said = CommandLine(
        destination=destination,
        dest_endpoint=dest_endpoint,
        dest_region=dest_region,
        dest_validate=dest_validate,
        tls_verify=tls_verify,
    )

    def work(call: Call) -> Outcome:
        return commands.wait(call, source=source, revision=revision, deadline=deadline)

    return Order(work, said, verbosity=verbose)


@app.command()
def upload(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files and folders of this machine; DIR/ means what is in DIR."),
    ],
    *,
    verbose: Verbose = 0,
    namespace: Annotated[
        str, typer.Option("-n", "--namespace", help="Of the data connection in the cluster.  [demo]")
    ] = "",
    secret: Annotated[str, typer.Option("--secret", help="Name of the data connection.  [demo-models]")] = "",
    wait: Annotated[str, typer.Option("--wait", help="How long to wait for the data connection.")] = "10m",
    finish: Annotated[bool, typer.Option("--finish", help="Let the Job that waits for the model complete.")] = False,
    finish_secret: Annotated[
        str, typer.Option("--finish-secret", help="Name of the Secret that the Job waits for.  [model-source]")
    ] = "",
    dest_endpoint: DestEndpoint = None,
    dest_region: DestRegion = None,
    dest_validate: DestValidate = None,
    max_threads_per_file: MaxThreads = None,
    max_files: MaxFiles = None,
    chunk_size: ChunkSize = None,
    force: Force = False,
) -> Order:
    """Upload files and folders of this machine to where AWS_* says, else to the cluster that you are logged in to."""
    from syncer.settings import CommandLine

    said = CommandLine(
        dest_endpoint=dest_endpoint,
        dest_region=dest_region,
        dest_validate=dest_validate,
        max_threads_per_file=max_threads_per_file,
        max_files=max_files,
        chunk_size=chunk_size,
        force=force or None,
    )

    def work(call: Call) -> Outcome:
        from syncer.uploading import Wish

        seconds = commands.duration("--wait", wait)
        wish = Wish(tuple(paths), namespace, secret, seconds, finish=finish, finish_secret=finish_secret)
        return commands.upload(call, wish, said)

    return Order(work, said, verbosity=verbose, asks=True)


@app.command()
def register(
    *,
    destination: Dest = None,
    verbose: Verbose = 0,
    dest_endpoint: DestEndpoint = None,
    dest_region: DestRegion = None,
    dest_validate: DestValidate = None,
    tls_verify: TlsVerify = None,
    version_from: Annotated[
        str,
        typer.Option(
            "--version-from", help="Version full-fp16-YYMM from full-fp16; auto asks the model's config.json."
        ),
    ] = "",
) -> Order:
    """Register the model that lies sealed at the destination as MODEL_NAME and MODEL_VERSION."""
    from syncer.settings import CommandLine

    said = CommandLine(
        destination=destination,
        dest_endpoint=dest_endpoint,
        dest_region=dest_region,
        dest_validate=dest_validate,
        tls_verify=tls_verify,
    )

    def work(call: Call) -> Outcome:
        return commands.register(call, version_from=version_from)

    return Order(work, said, verbosity=verbose, copies=True, registers=True)


@app.command()
def compress(
    *,
    source: Annotated[
        str | None, typer.Argument(metavar="[SRC]", help="Folder with the model.", show_default=False)
    ] = None,
    destination: Annotated[
        str | None, typer.Argument(metavar="[DEST]", help="Folder for the result.", show_default=False)
    ] = None,
    verbose: Verbose = 0,
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace what is in DEST, whosever it is.")] = False,
) -> Order:
    """Compress the model in one folder to another, unless COMPRESS_MODEL is false."""
    from syncer.settings import CommandLine

    said = CommandLine(source=source, destination=destination, force=force or None)
    return Order(commands.compress, said, verbosity=verbose, reads=True, compresses=True)


@app.command()
def doctor(
    *,
    source: Src = None,
    destination: Dest = None,
    verbose: Verbose = 0,
    src_endpoint: SrcEndpoint = None,
    dest_endpoint: DestEndpoint = None,
    src_region: SrcRegion = None,
    dest_region: DestRegion = None,
    src_validate: SrcValidate = None,
    dest_validate: DestValidate = None,
    tls_verify: TlsVerify = None,
    as_json: AsJson = False,
) -> Order:
    """Look at all that a run depends on, step by step, before any byte moves; leave nothing behind."""
    from syncer.settings import CommandLine

    said = CommandLine(
        source=source,
        destination=destination,
        src_endpoint=src_endpoint,
        dest_endpoint=dest_endpoint,
        src_region=src_region,
        dest_region=dest_region,
        src_validate=src_validate,
        dest_validate=dest_validate,
        tls_verify=tls_verify,
    )
    return Order(lambda call: commands.doctor(call, said, as_json=as_json), said, verbosity=verbose, examines=True)


def parse(arguments: list[str]) -> Order | None:
    """What `arguments` ask for; None when that was help, which is printed by now.

    Nothing is carried out in here: the library takes a broken pipe for its own, wherever it comes from.  Raises
    `ConfigurationError`.
    """
    command = typer.main.get_command(app)
    order = None
    try:
        with suppress(SystemExit):  # help that is written into a closed pipe
            order = command.main(args=arguments, prog_name="syncer", standalone_mode=False)
    except typer.exceptions.TyperException as error:
        hint = f"`syncer --help` and `syncer {arguments[0]} --help` say more"
        raise ConfigurationError(error.format_message(), hint=hint) from error
    return order if isinstance(order, Order) else None
