"""The other yardstick: boto3 as it comes, one stream a file, default transfer settings.

From S3 to S3 it feeds the body of a GET to `upload_fileobj`; that is how the field's s3-sync works.

    python -m benchmarks.stock s3://bucket/prefix/ /some/folder --src-endpoint http://127.0.0.1:9000
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.copying import arguments, split
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY


def client(endpoint: str) -> Any:
    """An S3 client with nothing set but where to go and who we are."""
    config = Config(s3={"addressing_style": "path"}, max_pool_connections=50)
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=config,
    )


def copy_all(source: str, target: str, *, src_endpoint: str, dest_endpoint: str, files: int) -> int:
    """Copy everything below `source`, `files` at once; the number of files."""
    reader = client(src_endpoint) if src_endpoint else None
    writer = client(dest_endpoint) if dest_endpoint else None

    def one(path: str) -> None:
        if reader and writer:
            (bucket, prefix), (target_bucket, target_prefix) = split(source), split(target)
            body = reader.get_object(Bucket=bucket, Key=prefix + path)["Body"]
            writer.upload_fileobj(Fileobj=body, Bucket=target_bucket, Key=target_prefix + path)
        elif reader:
            bucket, prefix = split(source)
            file = Path(target) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            reader.download_file(bucket, prefix + path, str(file))
        elif writer:
            bucket, prefix = split(target)
            writer.upload_file(str(Path(source) / path), bucket, prefix + path)

    if reader:
        bucket, prefix = split(source)
        pages = reader.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        paths = [item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ())]
    else:
        paths = [file.relative_to(source).as_posix() for file in Path(source).rglob("*") if file.is_file()]
    with ThreadPoolExecutor(files) as pool:
        return sum(1 for _ in pool.map(one, paths))


def main() -> None:
    """Copy from the command line; refuses to have copied nothing."""
    given = arguments(__doc__).parse_args()
    count = copy_all(
        given.source,
        given.target,
        src_endpoint=given.src_endpoint,
        dest_endpoint=given.dest_endpoint,
        files=given.files,
    )
    if not count:
        raise SystemExit(f"nothing in {given.source}")


if __name__ == "__main__":
    main()
