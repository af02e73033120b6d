"""A client that keeps writing while the server is killed again and again, and that knows afterwards what must be there.

It writes until a line arrives on standard input, then says `stopped`. At the next line it waits for replication to
settle, compares everything and ends with one line of JSON: `{"ops": {...}, "versions": N, "wrong": [...],
"settled_s": N, "compared_s": N}`.

An answer is a promise. No answer is not: what it asked for may be there or not, but once at most.
"""

import argparse
import hashlib
import json
import random
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from command import parse
from sites import compare, settle

BUCKET, COPY = "storm", "storm-copy"
WRITERS, KEYS_EACH = 4, 6
PART = 5 << 20
APPLIED, UNKNOWN, REFUSED, NOT_SENT = "applied", "unknown", "refused", "not sent"


def without_expect(request, **_):
    """With botocore 1.44.5 and urllib3 2.8.0, puts that the server had answered in full came out as a status of 200 without any
    header: the response had the status of an answer that came instead of `100 Continue`. Why is not known; without the
    header it was not seen again."""
    request.headers.pop("Expect", None)


class Storm:
    def __init__(self, source, targets, seed):
        source.s3.meta.events.register("before-send.s3", without_expect)
        self.source, self.targets, self.seed = source, targets, seed
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.ops = []  # every request that makes a version, in order under each key
        self.tag_ops = defaultdict(list)  # (key, version) -> [(tags, result)], in order
        self.seen = {target.name: defaultdict(list) for target in targets}  # key -> current versions seen
        self.counts = Counter()
        self.complaints = []

    def attempt(self, kind, request):
        """Sends one request; tells how it ended and the answer."""
        try:
            answer = request()
            result = APPLIED
        except EndpointConnectionError:
            answer, result = None, NOT_SENT
        except ClientError as error:
            answer, result = None, UNKNOWN
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status < 500:
                result = REFUSED
                with self.lock:
                    self.complaints.append(f"{kind} refused: {error}")
        except BotoCoreError:
            answer, result = None, UNKNOWN
        with self.lock:
            self.counts[f"{kind} {result}"] += 1
        if result == NOT_SENT:
            time.sleep(0.02)
        return result, answer

    def record(self, op, result, answer):
        op["result"] = result
        if result == APPLIED:
            if "VersionId" not in answer:
                raise AssertionError(f"{op} was answered without a version: {answer['ResponseMetadata']}")
            op["version"] = answer["VersionId"]
        if result in (APPLIED, UNKNOWN):
            with self.lock:
                self.ops.append(op)
        return result == APPLIED

    def guarded(self, work, argument):
        """Runs a thread's work; a thread that breaks down is a failure, not silence."""
        try:
            work(argument)
        except Exception:  # pylint: disable=broad-exception-caught
            with self.lock:
                self.complaints.append(f"the client broke down: {traceback.format_exc()}")

    def writer(self, number):
        rng = random.Random(f"{self.seed}/writer/{number}")
        keys = [f"writer-{number}/key {index} é+%" for index in range(KEYS_EACH)]
        recent = defaultdict(list)
        serial = 0
        while not self.stopping.is_set():
            for _ in range(rng.randint(1, 12)):
                if self.stopping.is_set():
                    return
                serial += 1
                key = rng.choice(keys)
                dice = rng.random()
                if dice < 0.25 and recent[key]:
                    self.change_tags(rng, key, rng.choice(recent[key][-3:]), serial)
                elif dice < 0.33:
                    self.delete(key)
                else:
                    version = self.put(rng, key, f"{number}-{serial}", in_parts=dice > 0.98)
                    if version is not None:
                        recent[key].append(version)
            self.stopping.wait(rng.uniform(0.05, 1.0))

    def put(self, rng, key, name, in_parts):
        size = rng.choice((0, 1, 100, rng.randint(0, 65536), rng.randint(0, 65536), rng.randint(0, 1 << 20)))
        if in_parts:
            size = PART + rng.randint(1, PART)
        body = random.Random(f"{self.seed}/{name}").randbytes(size)
        tags = {"first": name} if rng.random() < 0.3 else {}
        metadata = {"op": name}
        op = {
            "kind": "put", "key": key, "name": name, "md5": hashlib.md5(body).hexdigest(), "metadata": metadata,
            "tags": tags, "type": rng.choice(("image/png", "text/plain")),
        }
        head = {"Bucket": BUCKET, "Key": key, "Metadata": metadata, "ContentType": op["type"]}
        if tags:
            head["Tagging"] = f"first={name}"
        if in_parts:
            result, answer = self.put_parts(head, body)
        else:
            result, answer = self.attempt("put", lambda: self.source.s3.put_object(Body=body, **head))
        return op.get("version") if self.record(op, result, answer) else None

    def put_parts(self, head, body):
        s3, where = self.source.s3, {"Bucket": head["Bucket"], "Key": head["Key"]}
        result, answer = self.attempt("create upload", lambda: s3.create_multipart_upload(**head))
        if result != APPLIED:
            return REFUSED, None
        where["UploadId"] = answer["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(body), PART), 1):
            piece = body[start:start + PART]
            result, answer = self.attempt(
                "put part", lambda: s3.upload_part(PartNumber=number, Body=piece, **where)
            )
            if result != APPLIED:
                # Without its completion an upload is nothing.
                return REFUSED, None
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        return self.attempt(
            "complete upload", lambda: s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)
        )

    def delete(self, key):
        result, answer = self.attempt("delete", lambda: self.source.s3.delete_object(Bucket=BUCKET, Key=key))
        self.record({"kind": "delete", "key": key}, result, answer)

    def change_tags(self, rng, key, version, serial):
        where = {"Bucket": BUCKET, "Key": key, "VersionId": version}
        if rng.random() < 0.2:
            tags = {}
            result, _ = self.attempt("delete tags", lambda: self.source.s3.delete_object_tagging(**where))
        else:
            tags = {"change": str(serial), "é =": "a/b: +c@d"}
            document = {"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]}
            result, _ = self.attempt("put tags", lambda: self.source.s3.put_object_tagging(Tagging=document, **where))
        if result in (APPLIED, UNKNOWN):
            with self.lock:
                self.tag_ops[key, version].append((tags, result))

    def poller(self, target):
        """Watches the current version of every key at a site, as a reader would."""
        keys = [f"writer-{number}/key {index} é+%" for number in range(WRITERS) for index in range(KEYS_EACH)]
        while not self.stopping.is_set():
            for key in keys:
                try:
                    version = target.current(COPY, key)
                except (BotoCoreError, ClientError):
                    self.stopping.wait(0.05)
                    continue
                seen = self.seen[target.name][key]
                if version is not None and (not seen or seen[-1] != version):
                    seen.append(version)
                self.stopping.wait(0.004)

    def run(self):
        threads = [threading.Thread(target=self.guarded, args=(self.writer, number)) for number in range(WRITERS)]
        threads += [threading.Thread(target=self.guarded, args=(self.poller, target)) for target in self.targets]
        for thread in threads:
            thread.start()
        print("writing", flush=True)
        sys.stdin.readline()
        self.stopping.set()
        for thread in threads:
            thread.join()
        print("stopped", flush=True)

    def verify(self, seconds):
        wrong = list(self.complaints)
        began = time.monotonic()
        wrong += settle(self.source, BUCKET, seconds)
        settled = time.monotonic()
        rows, contents, differences = compare(self.source, self.targets, BUCKET, COPY)
        wrong += differences
        wrong += self.check_source(rows, contents)
        wrong += self.check_order(rows)
        return {
            "ops": dict(self.counts), "versions": len(rows), "wrong": wrong,
            "settled_s": round(settled - began, 1), "compared_s": round(time.monotonic() - settled, 1),
        }

    def check_source(self, rows, contents):
        """Nothing acknowledged is lost, nothing is there twice, nothing is there that nobody asked for."""
        wrong = []
        found = defaultdict(dict)  # key -> version -> is marker, oldest first
        for key, version, is_marker, _ in reversed(rows):
            found[key][version] = is_marker
        by_key = defaultdict(list)
        for op in self.ops:
            by_key[op["key"]].append(op)
        for key in found:
            if key not in by_key:
                wrong.append(f"source: {key!r} was never written")
        for key, ops in by_key.items():
            promised = [op["version"] for op in ops if op["result"] == APPLIED]
            there = [version for version in found[key] if version in set(promised)]
            if there != promised:
                lost = [version for version in promised if version not in found[key]]
                wrong.append(f"source: {key!r}: acknowledged versions lost or out of order, lost: {lost}")
            owner = {op["version"]: op for op in ops if op["result"] == APPLIED}
            unknown_puts = {op["name"]: op for op in ops if op["result"] == UNKNOWN and op["kind"] == "put"}
            unknown_deletes = sum(op["result"] == UNKNOWN and op["kind"] == "delete" for op in ops)
            for version, is_marker in found[key].items():
                op = owner.get(version)
                where = f"source: {key!r} version {version}"
                if is_marker:
                    if op is None:
                        unknown_deletes -= 1
                        if unknown_deletes < 0:
                            wrong.append(f"{where}: a delete marker nobody asked for")
                    elif op["kind"] != "delete":
                        wrong.append(f"{where}: a delete marker in place of an object")
                    continue
                content = contents.get((key, version))
                if content is None:
                    continue  # said already by the comparison
                name = content["headers"]["Metadata"].get("op")
                if op is None:
                    # Taken out, so that the same request cannot explain two versions.
                    op = unknown_puts.pop(name, None)
                    if op is None:
                        wrong.append(f"{where}: written twice, or never asked for (op {name})")
                        continue
                if content["md5"] != op["md5"] or content["headers"]["Metadata"] != op["metadata"]:
                    wrong.append(f"{where}: not what was written")
                if content["headers"].get("ContentType") != op["type"]:
                    wrong.append(f"{where}: content type {content['headers'].get('ContentType')}, not {op['type']}")
                allowed = [op["tags"]]
                for tags, result in self.tag_ops[key, version]:
                    allowed = [tags] if result == APPLIED else [*allowed, tags]
                if content["tags"] not in allowed:
                    wrong.append(f"{where}: tags {content['tags']}, allowed {allowed}")
        return wrong

    def check_order(self, rows):
        """What readers of the current version saw at a site never went back."""
        wrong = []
        place = {}
        for number, (key, version, _, _) in enumerate(reversed(rows)):
            place[key, version] = number
        for target, keys in self.seen.items():
            for key, versions in keys.items():
                last = -1
                for version in versions:
                    now = place.get((key, version))
                    if now is None:
                        wrong.append(f"{target}: {key!r}: readers saw version {version}, which the source does not have")
                    elif now < last:
                        wrong.append(f"{target}: {key!r}: readers saw the current version go back to {version}")
                    else:
                        last = now
        return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", required=True)
    parser.add_argument("--settle-seconds", type=float, default=120)
    options, source, targets = parse(parser)
    for target in targets:
        target.create_bucket(COPY)
    source.create_bucket(BUCKET)
    source.replicate(BUCKET, COPY, ",".join(target.name for target in targets))
    storm = Storm(source, targets, options.seed)
    storm.run()
    sys.stdin.readline()
    report = storm.verify(options.settle_seconds)
    print(json.dumps(report), flush=True)
    sys.exit(3 if report["wrong"] else 0)


if __name__ == "__main__":
    main()
