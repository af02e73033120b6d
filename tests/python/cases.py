"""What a user of `backbeat dev` relies on, one function a case. Each uses buckets of its own; an exception is a failure.

    cases.py NAME --source URL --target NAME=URL [--target NAME=URL]
"""

import io
import os
import random
import time

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from command import run_case
from sites import compare, settle, statuses

MIB = 1 << 20


def arrive(source, targets, bucket, copy):
    """Everything in the bucket gets to every target and is equal there."""
    late = settle(source, bucket, 60)
    assert not late, late
    rows, contents, wrong = compare(source, targets, bucket, copy)
    assert not wrong, "\n".join(wrong)
    return rows, contents


def prepare(source, targets, name, storage_class=None):
    bucket, copy = name, f"{name}-copy"
    for target in targets:
        target.create_bucket(copy)
    source.create_bucket(bucket)
    source.replicate(bucket, copy, storage_class or ",".join(target.name for target in targets))
    return bucket, copy


def versions_tags_and_markers(source, targets):
    bucket, copy = prepare(source, targets, "versions")
    s3 = source.s3
    for number in range(5):
        s3.put_object(
            Bucket=bucket, Key="report", Body=b"%d" % number * 1000, Metadata={"number": str(number)},
            ContentType="text/plain", CacheControl="no-cache", ContentDisposition="inline", ContentEncoding="identity",
            Tagging=f"number={number}&kind=first",
        )
    first = s3.put_object(Bucket=bucket, Key="tagged later", Body=b"x")["VersionId"]
    s3.put_object(Bucket=bucket, Key="tagged later", Body=b"y")
    s3.put_object_tagging(
        Bucket=bucket, Key="tagged later", VersionId=first, Tagging={"TagSet": [{"Key": "é =", "Value": "1/2: +3@4"}]}
    )
    s3.put_object(Bucket=bucket, Key="untagged", Body=b"x", Tagging="a=b")
    s3.delete_object_tagging(Bucket=bucket, Key="untagged")
    s3.put_object(Bucket=bucket, Key="deleted", Body=b"x")
    marker = s3.delete_object(Bucket=bucket, Key="deleted")
    assert marker["DeleteMarker"], marker
    s3.put_object(Bucket=bucket, Key="back again", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="back again")
    s3.put_object(Bucket=bucket, Key="back again", Body=b"y")
    s3.delete_object(Bucket=bucket, Key="never there")
    rows, contents = arrive(source, targets, bucket, copy)
    assert len(rows) == 14, rows
    assert contents["tagged later", first]["tags"] == {"é =": "1/2: +3@4"}
    head = s3.head_object(Bucket=bucket, Key="report")
    assert head["ReplicationStatus"] == "COMPLETED", head
    for target in targets:
        assert target.s3.head_object(Bucket=copy, Key="report")["ReplicationStatus"] == "REPLICA"


def sizes_and_multipart(source, targets):
    bucket, copy = prepare(source, targets, "sizes")
    s3 = source.s3
    for size in (0, 1, 65535, 65536, 5 * MIB, 20 * MIB + 3):
        s3.put_object(Bucket=bucket, Key=f"plain/{size}", Body=bytes(size % 251 for _ in range(1)) * size)
    for key, sizes in (("one part", [MIB]), ("three parts", [5 * MIB, 6 * MIB, 1]), ("twelve", [5 * MIB] * 12)):
        upload = s3.create_multipart_upload(
            Bucket=bucket, Key=key, Metadata={"parts": str(len(sizes))}, Tagging="in=parts", ContentType="video/mp4"
        )["UploadId"]
        where = {"Bucket": bucket, "Key": key, "UploadId": upload}
        parts = []
        for number, size in enumerate(sizes, 1):
            etag = s3.upload_part(PartNumber=number, Body=bytes([number]) * size, **where)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)
    rows, contents = arrive(source, targets, bucket, copy)
    etags = [content["headers"]["ETag"] for content in contents.values()]
    assert sum("-12" in etag for etag in etags) == 1, etags
    for target in targets:
        part = target.s3.get_object(Bucket=copy, Key="twelve", PartNumber=12)
        assert part["Body"].read() == bytes([12]) * 5 * MIB, "the layout of the parts is lost"
        piece = target.s3.get_object(Bucket=copy, Key="three parts", Range="bytes=5242879-5242880")
        assert piece["Body"].read() == b"\1\2"


def awkward_keys(source, targets):
    bucket, copy = prepare(source, targets, "awkward")
    keys = [
        "a b", "a+b", "a%20b", "a%2Fb", "//", "/leading", "trailing/", "a//b", "./a", "../a", "a/../b", "...", "?a=b&c", "#",
        "\"'`", "<a>&amp;", "\\", "é", "e\u0301", "日本語", "🦀", "a\u200bb", " a ", "~!@$^*()_-=[]{};:,.|", "x" * 1024,
        "é" * 512,
    ]
    for key in keys:
        source.s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Tagging="a=b")
        source.s3.put_object(Bucket=bucket, Key=key, Body=key.encode() * 2)
    source.s3.delete_object(Bucket=bucket, Key="a+b")
    rows, _ = arrive(source, targets, bucket, copy)
    assert len(rows) == 2 * len(keys) + 1


def storage_class_names_the_sites(source, targets):
    first, second = targets
    cases = {"class-first": first.name, "class-second": second.name, "class-both": f"{first.name},{second.name}",
             "class-none": None}
    expected = {"class-first": [first], "class-second": [second], "class-both": [first, second], "class-none": [first]}
    for bucket, storage_class in cases.items():
        for target in targets:
            target.create_bucket(f"{bucket}-copy")
        source.create_bucket(bucket)
        source.replicate(bucket, f"{bucket}-copy", storage_class)
        source.s3.put_object(Bucket=bucket, Key="k", Body=b"v")
    for bucket, sites in expected.items():
        arrive(source, sites, bucket, f"{bucket}-copy")
        for target in targets:
            there = bool(target.versions(f"{bucket}-copy"))
            assert there == (target in sites), f"{bucket}: at {target.name}: {there}"


def only_what_the_rule_names(source, targets):
    bucket, copy = "prefixed", "prefixed-copy"
    for target in targets:
        target.create_bucket(copy)
    source.create_bucket(bucket)
    early = source.s3.put_object(Bucket=bucket, Key="yes/early", Body=b"x")["VersionId"]
    role = "arn:aws:iam::root:role/backbeat"
    source.s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration={"Role": role, "Rules": [{
        "ID": "some", "Status": "Enabled", "Prefix": "yes/",
        "Destination": {"Bucket": f"arn:aws:s3:::{copy}", "StorageClass": targets[0].name},
    }]})
    wanted = source.s3.put_object(Bucket=bucket, Key="yes/k", Body=b"x")["VersionId"]
    other = source.s3.put_object(Bucket=bucket, Key="no/k", Body=b"x")["VersionId"]
    late = settle(source, bucket, 60)
    assert not late, late
    assert statuses(source, bucket, "yes/k", wanted)[0] == "COMPLETED"
    assert statuses(source, bucket, "no/k", other) == ("", {})
    assert statuses(source, bucket, "yes/early", early) == ("", {})
    assert [row[0] for row in targets[0].versions(copy)] == ["yes/k"]


def a_bad_destination_fails(source, targets):
    """A missing or unversioned bucket at the target makes the entry FAILED, and holds nothing else up."""
    target = targets[0]
    target.s3.create_bucket(Bucket="unversioned-copy")
    bucket, copy = prepare(source, [target], "good-one")
    for name in ("missing", "unversioned"):
        source.create_bucket(name)
        source.replicate(name, f"{name}-copy", target.name)
        source.s3.put_object(Bucket=name, Key="k", Body=b"v")
    source.s3.put_object(Bucket=bucket, Key="k", Body=b"v")
    arrive(source, [target], bucket, copy)
    for name in ("missing", "unversioned"):
        deadline = time.monotonic() + 60
        while (status := source.s3.head_object(Bucket=name, Key="k")["ReplicationStatus"]) != "FAILED":
            assert time.monotonic() < deadline, f"{name}: {status}"
            time.sleep(0.1)
    assert target.versions("unversioned-copy") == []


def errors_have_the_codes_of_s3(source, targets):
    s3 = source.s3
    source.create_bucket("errors")

    def code(request, **arguments):
        try:
            request(**arguments)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return None

    assert code(s3.get_object, Bucket="errors", Key="k") == "NoSuchKey"
    assert code(s3.put_object, Bucket="no-such-bucket", Key="k", Body=b"") == "NoSuchBucket"
    assert code(s3.get_bucket_replication, Bucket="errors") == "ReplicationConfigurationNotFoundError"
    assert code(s3.put_object, Bucket="errors", Key="k", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==") == "BadDigest"
    s3.create_bucket(Bucket="errors-unversioned")
    try:
        source.replicate("errors-unversioned", "copy", targets[0].name)
        raise AssertionError("replication without versioning was accepted")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidRequest", error


class Pattern(io.RawIOBase):
    """A file of any size that is made while it is read."""

    def __init__(self, size):
        self.left = size
        self.block = random.Random(1).randbytes(MIB)

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), self.left, MIB)
        buffer[:count] = self.block[:count]
        self.left -= count
        return count


def a_small_object(source, targets):
    bucket, copy = prepare(source, targets, "large")
    source.s3.put_object(Bucket=bucket, Key="small", Body=b"x")
    arrive(source, targets, bucket, copy)


def a_large_object(source, targets):
    """As large as BACKBEAT_LARGE_MIB says, in parts of 64 MiB, each copied in one piece."""
    size = int(os.environ.get("BACKBEAT_LARGE_MIB", "512")) * MIB
    config = TransferConfig(multipart_chunksize=64 * MIB, max_concurrency=2)
    source.s3.upload_fileobj(io.BufferedReader(Pattern(size), MIB), "large", "large", Config=config)
    version = source.current("large", "large")
    deadline = time.monotonic() + 600
    while statuses(source, "large", "large", version)[0] != "COMPLETED":
        assert time.monotonic() < deadline, statuses(source, "large", "large", version)
        time.sleep(0.2)
    etag = source.s3.head_object(Bucket="large", Key="large")["ETag"]
    for target in targets:
        head = target.s3.head_object(Bucket="large-copy", Key="large", VersionId=version)
        assert (head["ContentLength"], head["ETag"]) == (size, etag), head


def written_before_a_restart(source, targets):
    bucket, _ = prepare(source, targets, "restart")
    for number in range(20):
        # The last one is large enough for a file of its own.
        source.s3.put_object(Bucket=bucket, Key=f"k{number % 5}", Body=b"x" * (number if number < 19 else MIB))


def arrives_after_a_restart(source, targets):
    source.s3.put_object(Bucket="restart", Key="after", Body=b"x")
    rows, _ = arrive(source, targets, "restart", "restart-copy")
    assert len(rows) == 21, rows


def damage_a_replica(source, targets):
    """Does behind the engine's back what must never happen: changes a replica."""
    target = targets[1]
    key, version, _, _ = next(row for row in target.versions("demo-copy") if not row[2])
    target.s3.put_object_tagging(
        Bucket="demo-copy", Key=key, VersionId=version, Tagging={"TagSet": [{"Key": "damaged", "Value": "yes"}]}
    )


if __name__ == "__main__":
    run_case(globals())
