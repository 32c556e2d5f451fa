"""From S3 to S3 by obstore (object_store and rustls of Rust behind Python): one stream a file, no digest.

Runs in the environment of `make bench`, which has obstore; the project has not.

    .bench/bin/python -m benchmarks.obstore_copy s3://bucket/a/ s3://other/b/ --src-endpoint … --dest-endpoint …
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.copying import arguments, split
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY

PART = 16 << 20


def store(endpoint: str, bucket: str) -> Any:
    """A store with payloads left unsigned, whose certificate is checked as everybody's."""
    options: dict[str, Any] = {"allow_http": True, "timeout": "600s"}
    if authority := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(authority).read_bytes()
    return importlib.import_module("obstore.store").S3Store(
        bucket,
        endpoint=endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region=REGION,
        virtual_hosted_style_request=False,
        unsigned_payload=True,
        client_options=options,
    )


async def copy_all(given: argparse.Namespace) -> int:
    """Copy everything; the number of files."""
    library = importlib.import_module("obstore")
    (bucket, prefix), (target_bucket, target_prefix) = split(given.source), split(given.target)
    reader, writer = store(given.src_endpoint, bucket), store(given.dest_endpoint, target_bucket)
    found = [item["path"] for page in library.list(reader, prefix) for item in page]
    gate = asyncio.Semaphore(given.files)

    async def one(path: str) -> None:
        async with gate:
            body = (await library.get_async(reader, path)).stream(min_chunk_size=1 << 20)
            name = target_prefix + path.removeprefix(prefix)
            await library.put_async(writer, name, body, chunk_size=PART, max_concurrency=8, use_multipart=True)

    await asyncio.gather(*map(one, found))
    return len(found)


def main() -> None:
    """Copy from the command line; refuses to have copied nothing."""
    count = asyncio.run(copy_all(arguments(__doc__).parse_args()))
    sys.stdout.flush()
    os._exit(0 if count else 1)  # fed from an asynchronous generator, 0.12 aborts at the interpreter's end


if __name__ == "__main__":
    main()
