"""The S3 surface of the embedded site as boto3 uses it, one function a case. Each uses buckets of its own.

    surface.py NAME --source URL --target NAME=URL [--target NAME=URL]
"""

import base64
import datetime
import hashlib
import io
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from cases import MIB, arrive, prepare
from command import run_case
from sites import ACCESS_KEY, REGION, SECRET_KEY, settle

# Of b"123456789".
KNOWN = {
    "CRC32": "y/Q5Jg==", "CRC32C": "4waSgw==", "CRC64NVME": "rosUhgp5mIg=", "SHA1": "98O8HYCOBHMq32eZZczDTKeuNEE=",
    "SHA256": "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
}


def code(request, **arguments):
    """The code of the error that a request ends with; None if it ends well."""
    try:
        request(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def copies_arrive(source, targets):
    bucket, copy = prepare(source, targets, "copies")
    s3 = source.s3
    first = s3.put_object(Bucket=bucket, Key="a", Body=b"first", Metadata={"n": "1"}, Tagging="t=1")["VersionId"]
    s3.put_object(Bucket=bucket, Key="a", Body=b"second", Metadata={"n": "2"}, Tagging="t=2")
    s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a", "VersionId": first})
    s3.copy_object(
        Bucket=bucket, Key="c é+", CopySource=f"{bucket}/a", MetadataDirective="REPLACE", Metadata={"n": "3"},
        ContentType="text/x-c", TaggingDirective="REPLACE", Tagging="t=3",
    )
    s3.copy_object(Bucket=bucket, Key="empty copy", CopySource=f"{bucket}/a", MetadataDirective="REPLACE")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    s3.copy_object(Bucket=bucket, Key="empty", CopySource=f"{bucket}/empty", MetadataDirective="REPLACE", Metadata={"x": "y"})
    s3.upload_fileobj(
        _file(11 * MIB), bucket, "parts", Config=TransferConfig(multipart_threshold=MIB, multipart_chunksize=5 * MIB)
    )
    s3.copy_object(Bucket=bucket, Key="parts copied", CopySource=f"{bucket}/parts")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="of ranges")["UploadId"]
    parts = []
    for number, (start, end) in enumerate(((0, 5 * MIB - 1), (3 * MIB, 9 * MIB)), 1):
        part = s3.upload_part_copy(
            Bucket=bucket, Key="of ranges", UploadId=upload, PartNumber=number, CopySource=f"{bucket}/parts",
            CopySourceRange=f"bytes={start}-{end}",
        )
        parts.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="of ranges", UploadId=upload, MultipartUpload={"Parts": parts})
    rows, contents = arrive(source, targets, bucket, copy)
    current = {key: contents[key, version] for key, version, _, is_latest in rows if is_latest}
    assert current["b"]["headers"]["Metadata"] == {"n": "1"} and current["b"]["tags"] == {"t": "1"}, current["b"]
    assert current["c é+"]["headers"]["Metadata"] == {"n": "3"} and current["c é+"]["tags"] == {"t": "3"}
    assert current["parts"]["md5"] == current["parts copied"]["md5"]
    assert current["of ranges"]["headers"]["ContentLength"] == 11 * MIB + 1


def _file(size):
    return io.BytesIO(bytes(range(256)) * (size // 256))


def null_versions_arrive(source, targets):
    """Objects older than versioning, and those written while it was suspended, get to the targets when their tags change."""
    bucket, copy = "nulls", "nulls-copy"
    s3 = source.s3
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="old", Body=b"before versioning", Metadata={"a": "b"})
    s3.put_object(Bucket=bucket, Key="covered", Body=b"before versioning")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="suspended", Body=b"version")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert s3.put_object(Bucket=bucket, Key="suspended", Body=b"null").get("VersionId") in (None, "null")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=bucket, Key="covered", Body=b"newer")
    listed = {(key, version) for key, version, _, _ in source.versions(bucket)}
    assert {("old", "null"), ("covered", "null"), ("suspended", "null")} <= listed, listed
    for target in targets:
        target.create_bucket(copy)
    source.replicate(bucket, copy, ",".join(target.name for target in targets))
    for key in ("old", "suspended"):
        s3.put_object_tagging(Bucket=bucket, Key=key, VersionId="null", Tagging={"TagSet": [{"Key": "k", "Value": key}]})
    late = settle(source, bucket, 60)
    assert not late, late
    for key in ("old", "suspended"):
        original = source.read(bucket, key, "null")
        for target in targets:
            assert target.read(copy, key, "null") == original, (target.name, key)
            assert target.s3.head_object(Bucket=copy, Key=key)["ReplicationStatus"] == "REPLICA"
    assert s3.get_object(Bucket=bucket, Key="covered", VersionId="null")["Body"].read() == b"before versioning"


def protection_arrives(source, targets):
    bucket, copy = "locked", "locked-copy"
    s3 = source.s3
    for target in targets:
        target.s3.create_bucket(Bucket=copy, ObjectLockEnabledForBucket=True)
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    source.replicate(bucket, copy, ",".join(target.name for target in targets))
    until = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
    kept = s3.put_object(
        Bucket=bucket, Key="kept", Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    held = s3.put_object(Bucket=bucket, Key="held", Body=b"x")["VersionId"]
    s3.put_object_legal_hold(Bucket=bucket, Key="held", LegalHold={"Status": "ON"})
    later = s3.put_object(Bucket=bucket, Key="later", Body=b"x")["VersionId"]
    s3.put_object_retention(Bucket=bucket, Key="later", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until})
    s3.put_object(Bucket=bucket, Key="shown", Body=b"x")
    s3.put_object_acl(Bucket=bucket, Key="shown", ACL="public-read")
    arrive(source, targets, bucket, copy)
    for site, name in [(source, bucket)] + [(target, copy) for target in targets]:
        grants = site.s3.get_object_acl(Bucket=name, Key="shown")["Grants"]
        assert any(grant["Grantee"].get("URI", "").endswith("/AllUsers") for grant in grants), grants
        assert site.s3.get_object_retention(Bucket=name, Key="kept")["Retention"]["RetainUntilDate"] == until
        assert site.s3.head_object(Bucket=name, Key="held")["ObjectLockLegalHoldStatus"] == "ON"
        assert site.s3.head_object(Bucket=name, Key="later")["ObjectLockMode"] == "COMPLIANCE"
        for key, version in (("kept", kept), ("held", held), ("later", later)):
            assert code(site.s3.delete_object, Bucket=name, Key=key, VersionId=version) == "AccessDenied", key
        assert code(
            site.s3.delete_object, Bucket=name, Key="later", VersionId=later, BypassGovernanceRetention=True
        ) == "AccessDenied"
    assert code(s3.delete_object, Bucket=bucket, Key="kept", VersionId=kept, BypassGovernanceRetention=True) is None


def _open(url, method="GET", body=None, headers=None):
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def presigned_urls(source, targets):
    s3 = source.s3
    s3.create_bucket(Bucket="signed")
    place = {"Bucket": "signed", "Key": "a b+é"}
    put = s3.generate_presigned_url("put_object", Params={**place, "ContentType": "text/x"}, ExpiresIn=60)
    assert _open(put, "PUT", b"hello", {"Content-Type": "text/x"})[0] == 200
    get = s3.generate_presigned_url("get_object", Params={**place, "ResponseContentType": "text/y"}, ExpiresIn=60)
    assert _open(get) == (200, b"hello")
    assert _open(get, "PUT", b"other", {"Content-Type": ""})[0] == 403, "a signature is for one method"
    assert _open(get.replace("a%20b", "a%20c"))[0] == 403
    short = s3.generate_presigned_url("get_object", Params=place, ExpiresIn=1)
    deadline = time.monotonic() + 10
    while (answer := _open(short))[0] == 200:
        assert time.monotonic() < deadline, "it does not expire"
        time.sleep(0.1)
    assert answer[0] == 403 and b"<Code>AccessDenied</Code>" in answer[1], answer
    assert _open(f"{source.url}/signed/a%20b%2B%C3%A9")[0] == 403


class Trailing(botocore.auth.S3SigV4Auth):
    """Signs a request whose checksum comes behind its body."""

    def payload(self, request):
        return "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def _put_trailing(source, key, body, name, value):
    framed = b"%x\r\n%s\r\n0\r\n%s:%s\r\n\r\n" % (len(body), body, name.encode(), value.encode())
    request = botocore.awsrequest.AWSRequest(
        method="PUT", url=f"{source.url}/sums/{key}", data=framed,
        headers={
            "content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(body)), "x-amz-trailer": name,
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        },
    )
    Trailing(botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
    answer = source.http.send(request.prepare())
    return answer.status_code, answer.text


def checksums_of_every_kind(source, targets):
    s3 = source.s3
    source.create_bucket("sums")
    for name, value in KNOWN.items():
        field, header = f"Checksum{name}", f"x-amz-checksum-{name.lower()}"
        s3.put_object(Bucket="sums", Key=name, Body=b"123456789", **{field: value})
        head = s3.head_object(Bucket="sums", Key=name, ChecksumMode="ENABLED")
        assert head[field] == value and head["ChecksumType"] == "FULL_OBJECT", head
        assert code(s3.put_object, Bucket="sums", Key="wrong", Body=b"12345678_", **{field: value}) == "BadDigest"
        status, text = _put_trailing(source, f"trailing-{name}", b"123456789", header, value)
        assert status == 200, text
        head = s3.head_object(Bucket="sums", Key=f"trailing-{name}", ChecksumMode="ENABLED")
        assert head[field] == value and "ContentEncoding" not in head, head
        status, text = _put_trailing(source, "wrong", b"12345678_", header, value)
        assert status == 400 and "<Code>BadDigest</Code>" in text, (status, text)
    assert code(s3.head_object, Bucket="sums", Key="wrong") == "404"
    body = bytes(range(256)) * (44 * 1024)
    whole = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    for algorithm, kind in (("CRC32", "FULL_OBJECT"), ("CRC32", "COMPOSITE"), ("SHA256", "COMPOSITE")):
        place = {"Bucket": "sums", "Key": f"{algorithm}-{kind}"}
        upload = s3.create_multipart_upload(ChecksumAlgorithm=algorithm, ChecksumType=kind, **place)["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(body), 5 * MIB), 1):
            part = s3.upload_part(
                UploadId=upload, PartNumber=number, Body=body[start:start + 5 * MIB], ChecksumAlgorithm=algorithm, **place
            )
            field = f"Checksum{algorithm}"
            parts.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
        done = s3.complete_multipart_upload(UploadId=upload, MultipartUpload={"Parts": parts}, **place)
        if kind == "FULL_OBJECT":
            assert done[field] == whole, done
        else:
            inner = b"".join(base64.b64decode(part[field]) for part in parts)
            digest = hashlib.sha256(inner).digest() if algorithm == "SHA256" else zlib.crc32(inner).to_bytes(4, "big")
            assert done[field] == f"{base64.b64encode(digest).decode()}-{len(parts)}", done
        # boto3 checks what it reads.
        assert s3.get_object(ChecksumMode="ENABLED", **place)["Body"].read() == body


def one_of_many_conditional_writers_wins(source, targets):
    bucket, copy = prepare(source, targets, "conditional")

    def create(number):
        return code(source.s3.put_object, Bucket=bucket, Key="k", Body=b"%d" % number, IfNoneMatch="*")

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(create, range(16)))
    assert sorted(code or "" for code in codes) == [""] + ["PreconditionFailed"] * 15, codes
    etag = source.s3.head_object(Bucket=bucket, Key="k")["ETag"]

    def replace(number):
        return code(source.s3.put_object, Bucket=bucket, Key="k", Body=b"new %d" % number, IfMatch=etag)

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(replace, range(16)))
    assert sorted(code or "" for code in codes) == [""] + ["PreconditionFailed"] * 15, codes
    assert code(source.s3.put_object, Bucket=bucket, Key="none", Body=b"", IfMatch=etag) == "NoSuchKey"
    assert code(source.s3.delete_object, Bucket=bucket, Key="k", IfMatch=etag) == "PreconditionFailed"
    rows, _ = arrive(source, targets, bucket, copy)
    assert len(rows) == 2, rows


def listings_page_through_a_thousand_keys(source, targets):
    s3 = source.s3
    source.create_bucket("many")
    keys = sorted([f"dir {n % 7}/k+{n:04}" for n in range(1020)] + ["a&b", "é", "~"])
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="many", Key=key, Body=b""), keys))
    for call, field in (("list_objects", "Contents"), ("list_objects_v2", "Contents"), ("list_object_versions", "Versions")):
        for size in (1000, 100):
            pages = list(s3.get_paginator(call).paginate(Bucket="many", PaginationConfig={"PageSize": size}))
            found = [row["Key"] for page in pages for row in page.get(field, ())]
            assert found == keys, (call, size, len(found))
        pages = list(s3.get_paginator(call).paginate(Bucket="many", Delimiter="/", PaginationConfig={"PageSize": 3}))
        prefixes = [row["Prefix"] for page in pages for row in page.get("CommonPrefixes", ())]
        assert prefixes == [f"dir {n}/" for n in range(7)], (call, prefixes)
        assert [row["Key"] for page in pages for row in page.get(field, ())] == ["a&b", "~", "é"], call
        inner = list(s3.get_paginator(call).paginate(Bucket="many", Prefix="dir 3/"))
        assert sum(len(page.get(field, ())) for page in inner) == 146, call
    asked = [{"Key": key} for key in keys[:1000]]
    answer = s3.delete_objects(Bucket="many", Delete={"Objects": asked, "Quiet": True})
    assert not answer.get("Deleted") and not answer.get("Errors"), answer
    assert code(s3.delete_objects, Bucket="many", Delete={"Objects": asked + [{"Key": "x"}]}) == "MalformedXML"
    assert [row["Key"] for row in s3.list_objects_v2(Bucket="many")["Contents"]] == keys[1000:]
    answer = s3.delete_objects(Bucket="many", Delete={"Objects": [{"Key": "a&b", "VersionId": "x"}, {"Key": "é"}]})
    assert [row["Code"] for row in answer["Errors"]] == ["InvalidArgument"] and answer["Deleted"][0]["Key"] == "é", answer


def configurations_come_back(source, targets):
    s3 = source.s3
    source.create_bucket("configured")
    rules = [{
        "ID": "r", "Status": "Enabled", "Filter": {"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v"}]}},
        "Expiration": {"Days": 3}, "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 4},
    }]
    s3.put_bucket_lifecycle_configuration(Bucket="configured", LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket="configured")["Rules"] == rules
    queues = [{
        "Id": "q", "QueueArn": "arn:scality:bucketnotif:::t", "Events": ["s3:ObjectCreated:Put"],
        "Filter": {"Key": {"FilterRules": [{"Name": "Suffix", "Value": ".png"}]}},
    }]
    s3.put_bucket_notification_configuration(
        Bucket="configured", NotificationConfiguration={"QueueConfigurations": queues}, SkipDestinationValidation=True
    )
    assert s3.get_bucket_notification_configuration(Bucket="configured")["QueueConfigurations"] == queues
    rule = {"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["*"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 5}
    s3.put_bucket_cors(Bucket="configured", CORSConfiguration={"CORSRules": [rule]})
    assert s3.get_bucket_cors(Bucket="configured")["CORSRules"] == [rule]
    tags = [{"Key": "k", "Value": "v"}]
    s3.put_bucket_tagging(Bucket="configured", Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket="configured")["TagSet"] == tags
    s3.put_bucket_acl(Bucket="configured", ACL="public-read")
    assert len(s3.get_bucket_acl(Bucket="configured")["Grants"]) == 2
    assert code(s3.get_bucket_policy, Bucket="configured") == "NotImplemented"


def a_pair_of_buckets_for_rclone(source, targets):
    prepare(source, targets, "pairs")


if __name__ == "__main__":
    run_case(globals())
