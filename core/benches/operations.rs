//! What the hot paths cost.
//!
//! `cargo bench -p backbeat-core` prints nanoseconds per operation. `operations count CASE TIMES` does one case so often and measures
//! nothing: `ci/instructions` counts its instructions under valgrind.

use std::collections::VecDeque;
use std::hint::black_box;

use backbeat_core::id::Offset;
use backbeat_core::model::{Decision, FilterConfig, LogEntry, LogRecord, ObjectMd, decide};
use backbeat_core::parts::{Lanes, Ledger};

/// The metadata of an object with two sites, as CloudServer writes it: 1.5 KB.
const METADATA: &str = r#"{"owner-display-name":"account","owner-id":"7777777777777777777777777777777777777777777777777777777777777777","cache-control":"","content-disposition":"","content-language":"","content-encoding":"","creation-time":"2026-11-20T16:26:15.045Z","last-modified":"2026-11-20T16:26:15.045Z","expires":"","content-length":4096,"content-type":"application/octet-stream","content-md5":"d41d8cd98f00b204e9800998ecf8427e","x-amz-version-id":"null","x-amz-server-version-id":"","x-amz-storage-class":"STANDARD","x-amz-server-side-encryption":"","x-amz-server-side-encryption-aws-kms-key-id":"","x-amz-server-side-encryption-customer-algorithm":"","x-amz-website-redirect-location":"","acl":{"Canned":"private","FULL_CONTROL":[],"WRITE_ACP":[],"READ":[],"READ_ACP":[]},"key":"","location":[{"key":"0123456789abcdef0123456789abcdef01234567","size":4096,"start":0,"dataStoreName":"us-east-1","dataStoreType":"file","dataStoreETag":"1:d41d8cd98f00b204e9800998ecf8427e"}],"azureInfo":{},"isDeleteMarker":false,"tags":{"team":"storage"},"replicationInfo":{"status":"PENDING","backends":[{"site":"paris","status":"PENDING","dataStoreVersionId":""},{"site":"tokyo","status":"PENDING","dataStoreVersionId":""}],"content":["DATA","METADATA"],"destination":"arn:aws:s3:::photos-copy","storageClass":"paris,tokyo","role":"arn:aws:iam::root:role/backbeat,arn:aws:iam::root:role/backbeat","storageType":"","dataStoreVersionId":""},"dataStoreName":"us-east-1","originOp":"s3:ObjectCreated:Put","md-model-version":6,"x-amz-meta-camera":"a camera","versionId":"98200000000000999999RG001  "}"#;

/// One thing that is measured.
struct Case {
    name: &'static str,
    /// Does it so often. The result is of no use but that it depends on all that was done.
    run: fn(u32) -> usize,
}

const CASES: [Case; 5] = [
    Case { name: "filter", run: filter },
    Case { name: "ledger", run: ledger },
    Case { name: "lanes", run: lanes },
    Case { name: "metadata-read", run: metadata_read },
    Case { name: "metadata-write", run: metadata_write },
];

/// What the populator does with a journal record that comes as text: reads it, decides, writes the message.
fn filter(times: u32) -> usize {
    let mut entry = LogEntry::put("photos/2026/object-000001\u{0}98200000000000999999RG001  ", METADATA);
    entry.timestamp = Some("2026-11-20T16:26:15.045Z".into());
    let record = LogRecord {
        timestamp: Some("2026-11-20T16:26:15.046Z".into()),
        db: "photos".into(),
        entries: vec![entry],
    };
    let (record, config) = (record.to_json(), FilterConfig::default());
    let mut written = 0;
    for _ in 0..times {
        let record = LogRecord::parse(black_box(&record)).expect("the record is valid");
        for entry in record.populator_entries() {
            let Decision::Publish(publish) = decide(&entry, &config) else {
                panic!("the object is PENDING");
            };
            written += black_box(publish.key).len() + black_box(entry.message()).len();
        }
    }
    written
}

/// Reading the metadata of an object.
fn metadata_read(times: u32) -> usize {
    let parse = |_| ObjectMd::parse(black_box(METADATA)).expect("the metadata is valid");
    (0..times).map(parse).map(|md| md.replication().backends().len()).sum()
}

/// Writing the metadata of an object as queues and sites get it.
fn metadata_write(times: u32) -> usize {
    let md = ObjectMd::parse(METADATA).expect("the metadata is valid");
    (0..times).map(|_| black_box(&md).to_model_json().len()).sum()
}

/// One position consumed, one of 256 open ones settled, and the commit point asked for.
fn ledger(times: u32) -> usize {
    const OPEN: u64 = 256;
    let mut ledger = Ledger::new(Offset(0));
    (0..OPEN).for_each(|offset| ledger.consumed(Offset(offset)));
    let mut sum = 0;
    for offset in 0..u64::from(times) {
        ledger.consumed(Offset(offset + OPEN));
        // Eight at a time end in the opposite order.
        assert!(ledger.settled(black_box(Offset(offset ^ 7))));
        sum ^= ledger.commit_point().0;
    }
    usize::try_from(sum).expect("a small number")
}

/// One piece of work queued under one of 1,024 keys, one started and one finished, with 256 running.
fn lanes(times: u32) -> usize {
    const RUNNING: usize = 256;
    let mut lanes = Lanes::new();
    let mut running = VecDeque::with_capacity(RUNNING + 1);
    let mut sum = 0_u32;
    for work in 0..times {
        // Keys in no order: the upper bits of a product are well mixed.
        let key = work.wrapping_mul(0x9e37_79b9) >> 22;
        lanes.push(black_box(key), work);
        running.extend(lanes.start_next_key());
        if running.len() > RUNNING {
            let key = running.pop_front().expect("it is not empty");
            sum ^= lanes.finish(&key);
        }
    }
    usize::try_from(sum).expect("a small number") + lanes.ready_len()
}

/// Nanoseconds per operation: the best of some rounds, which is the one that was disturbed least.
#[expect(clippy::disallowed_types, reason = "a benchmark reads the clock")]
fn measure(case: &Case) -> f64 {
    const ROUNDS: u32 = 7;
    let round = |times: u32| {
        let since = std::time::Instant::now();
        black_box((case.run)(times));
        since.elapsed().as_secs_f64()
    };
    // So many that a round takes about a tenth of a second.
    let mut times = 100;
    while round(times) < 0.05 {
        times *= 2;
    }
    let best = (0..ROUNDS).map(|_| round(2 * times)).fold(f64::INFINITY, f64::min);
    best * 1e9 / f64::from(2 * times)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", name, times] => {
            let case = CASES.iter().find(|case| case.name == name).expect("no such case");
            black_box((case.run)(times.parse().expect("TIMES must be a number")));
        }
        ["list"] => CASES.iter().for_each(|case| println!("{}", case.name)),
        [] | ["--bench"] => {
            for case in &CASES {
                let nanoseconds = measure(case);
                println!("{:16} {nanoseconds:9.1} ns {:12.0} a second", case.name, 1e9 / nanoseconds);
            }
        }
        _ => panic!("usage: operations [count CASE TIMES | list]"),
    }
}
