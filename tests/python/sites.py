"""What the end-to-end scripts share: clients of the sites of `backbeat dev`, and reading everything back."""

import hashlib
import json
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.httpsession
from botocore.config import Config
from botocore.exceptions import ClientError

ACCESS_KEY = "backbeat-dev"
SECRET_KEY = "backbeat-dev-secret"
REGION = "us-east-1"
# A machine that is busy with other things takes its time.
READ_SECONDS_MAX = 120
# Headers that describe an object, as boto3 names them. What is about the answer or about replication is left out.
DESCRIPTIVE = (
    "ContentType", "ContentEncoding", "ContentDisposition", "CacheControl", "ContentLength", "ETag", "LastModified",
    "Metadata",
)


class UnsignedPayload(botocore.auth.S3SigV4Auth):
    """Signs as the engine does: everything but the body."""

    def payload(self, request):
        return "UNSIGNED-PAYLOAD"


class Site:
    """One site: its name and a client that never tries again by itself."""

    def __init__(self, name, url):
        self.name = name
        self.url = url
        self.s3 = boto3.client(
            "s3", endpoint_url=url, region_name=REGION,
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=Config(
                retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=READ_SECONDS_MAX, max_pool_connections=32,
                s3={"addressing_style": "path"},
            ),
        )
        self.http = botocore.httpsession.URLLib3Session(max_pool_connections=32, timeout=READ_SECONDS_MAX)

    def create_bucket(self, bucket):
        self.s3.create_bucket(Bucket=bucket)
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def replicate(self, bucket, copy, storage_class=None):
        destination = {"Bucket": f"arn:aws:s3:::{copy}"}
        if storage_class is not None:
            destination["StorageClass"] = storage_class
        role = "arn:aws:iam::root:role/backbeat"
        # boto3 checks storage classes only at the server, so that names of sites go through.
        self.s3.put_bucket_replication(Bucket=bucket, ReplicationConfiguration={
            "Role": f"{role},{role}",
            "Rules": [{"ID": "all", "Status": "Enabled", "Prefix": "", "Destination": destination}],
        })

    def versions(self, bucket):
        """Every version and marker, newest first under each key: [(key, version id, is marker, is latest)]."""
        rows = []
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for kind, is_marker in (("Versions", False), ("DeleteMarkers", True)):
                for row in page.get(kind, ()):
                    rows.append((row["Key"], row["VersionId"], is_marker, row["IsLatest"]))
        # Version ids of a versioned bucket are made so that the newest sorts first.
        return sorted(rows)

    def metadata(self, bucket, key, version):
        """The stored metadata of a version, through the internal route."""
        path = f"/_/backbeat/metadata/{bucket}/{urllib.parse.quote(key, safe='/~')}"
        request = botocore.awsrequest.AWSRequest(
            method="GET", url=f"{self.url}{path}?versionId={urllib.parse.quote(version, safe='')}",
        )
        credentials = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY)
        UnsignedPayload(credentials, "s3", REGION).add_auth(request)
        answer = self.http.send(request.prepare())
        if answer.status_code != 200:
            raise RuntimeError(f"{self.name}: GET {path}: {answer.status_code} {answer.text[:200]}")
        return json.loads(json.loads(answer.text)["Body"])

    def read(self, bucket, key, version):
        """Everything a reader sees of a version: digest, descriptive headers, tags."""
        answer = self.s3.get_object(Bucket=bucket, Key=key, VersionId=version)
        body = hashlib.md5()
        for piece in answer["Body"].iter_chunks(1 << 20):
            body.update(piece)
        tags = self.s3.get_object_tagging(Bucket=bucket, Key=key, VersionId=version)["TagSet"]
        headers = {name: answer[name] for name in DESCRIPTIVE if name in answer}
        headers["Metadata"] = {
            name: value for name, value in headers["Metadata"].items() if not name.endswith("-replication-status")
        }
        return {
            "md5": body.hexdigest(), "headers": headers, "tags": {tag["Key"]: tag["Value"] for tag in tags},
        }

    def current(self, bucket, key):
        """The version id of the current version, delete markers included; None if there is nothing."""
        try:
            return self.s3.head_object(Bucket=bucket, Key=key)["VersionId"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return error.response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-version-id")


def statuses(source, bucket, key, version):
    """Overall status and status by site."""
    info = source.metadata(bucket, key, version)["replicationInfo"]
    return info["status"], {backend["site"]: backend["status"] for backend in info["backends"]}


def settle(source, bucket, seconds):
    """Waits until no version of the bucket is under way; tells what still is, as a list of lines."""
    deadline = time.monotonic() + seconds
    open_versions = [(key, version) for key, version, _, _ in source.versions(bucket)]
    with ThreadPoolExecutor(4) as pool:
        while True:
            found = list(pool.map(lambda row: statuses(source, bucket, *row), open_versions))
            still = [
                (row, status) for row, status in zip(open_versions, found)
                if status[0] in ("PENDING", "PROCESSING") or "PENDING" in status[1].values()
            ]
            if not still:
                return []
            if time.monotonic() > deadline:
                return [f"{row[0]!r} version {row[1]} still {status}" for row, status in still]
            open_versions = [row for row, _ in still]
            time.sleep(0.2)


def compare(source, targets, bucket, copy):
    """Compares every version at every site with the source. Returns what was read at the source, by key and version,
    and the differences as lines."""
    rows = source.versions(bucket)
    wrong = []
    for target in targets:
        found = target.versions(copy)
        for row in sorted(set(rows) ^ set(found)):
            wrong.append(f"{target.name}: {'missing' if row in rows else 'superfluous'}: {row}")

    def check(row):
        key, version, is_marker, _ = row
        lines = []
        overall, by_site = statuses(source, bucket, key, version)
        if overall != "COMPLETED" or any(by_site.get(target.name) != "COMPLETED" for target in targets):
            lines.append(f"source: {key!r} version {version} is {overall} {by_site}")
        for target in targets:
            replica = target.metadata(copy, key, version)["replicationInfo"]["status"]
            if replica != "REPLICA":
                lines.append(f"{target.name}: {key!r} version {version} is {replica!r}, not a replica")
        if is_marker:
            return None, lines
        original = source.read(bucket, key, version)
        for target in targets:
            replica = target.read(copy, key, version)
            for part in original:
                if replica[part] != original[part]:
                    lines.append(
                        f"{target.name}: {key!r} version {version}: {part} is {replica[part]}, "
                        f"at the source {original[part]}"
                    )
        return original, lines

    def guarded(row):
        try:
            return check(row)
        except (ClientError, RuntimeError) as error:
            return None, [f"{row[0]!r} version {row[1]}: {error}"]

    contents = {}
    with ThreadPoolExecutor(6) as pool:
        for row, (original, lines) in zip(rows, pool.map(guarded, rows)):
            wrong.extend(lines)
            if original is not None:
                contents[row[0], row[1]] = original
    return rows, contents, wrong
