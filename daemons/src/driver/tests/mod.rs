//! The drivers over memory adapters, under paused time.

mod bench;
mod ownership;

use std::fmt::Debug;
use std::time::Duration;

use backbeat_backends::coordination::{Coordination, NodePath};
use backbeat_backends::queue::{Queue, Slot};
use backbeat_backends::stats::Stats;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::{Partition, Seq, Topic};
use backbeat_core::model::{ObjectRef, RawJson, origin_op};
use backbeat_core::processor::{Control, Event};

use super::PositionNodes;
use super::processor::load_exceptions;
use crate::metrics::names::{self, ORIGIN};
use bench::{Bench, PARTITIONS, group};

/// The value of an applied call; panics otherwise.
#[track_caller]
pub(super) fn applied<T: Debug>(ending: Ending<T>) -> T {
    match ending {
        Ending::Applied(value) => value,
        ending @ (Ending::Refused(_) | Ending::Unknown) => panic!("{ending:?}"),
    }
}

/// Messages of `topic` that the site's group has not committed.
async fn uncommitted(bench: &Bench, topic: &str) -> u64 {
    let mut sum = 0;
    for partition in 0..PARTITIONS {
        let slot = Slot::new(&Topic::from(topic), Partition(partition));
        let Ending::Applied(positions) = bench.queue.positions(&group(), &slot).await else {
            panic!("{slot} exists")
        };
        sum += positions.end.0 - positions.committed.unwrap_or(positions.begin).0;
    }
    sum
}

async fn exceptions(bench: &Bench) -> usize {
    let mut sum = 0;
    for partition in 0..PARTITIONS {
        let topic = Topic::from("exceptions");
        match load_exceptions(&*bench.queue, &topic, Partition(partition), None).await {
            Ending::Applied(records) => sum += records.len(),
            Ending::Refused(_) | Ending::Unknown => panic!("the topic in memory can be read"),
        }
    }
    sum
}

#[tokio::test(start_paused = true)]
async fn a_change_is_copied_and_its_status_recorded() {
    let bench = Bench::new().await;
    let (populator, populator_task) = bench.populator();
    let (processor, processor_task) = bench.processor().await;
    let (status, status_task) = bench.status().await;
    let objects: Vec<ObjectRef> = (0..50)
        .map(|number| bench.world.put(&format!("key {}", number % 20), &format!("v{number}")))
        .collect();
    bench.world.settle(&objects, "COMPLETED").await;
    assert!(objects.iter().all(|object| bench.world.has_copy(object)));

    populator.shut_down().await;
    processor.shut_down().await;
    status.shut_down().await;
    assert_eq!(populator_task.await.expect("no panic"), None);
    processor_task.await.expect("no panic").expect("a clean end");
    status_task.await.expect("no panic").expect("a clean end");
    assert_eq!(uncommitted(&bench, "replication").await, 0, "a shutdown commits what is settled");

    tokio::time::sleep(Duration::from_secs(1)).await;
    let key = "paris:bb:crr:opspending";
    let Ending::Applied(values) = bench.stats.values(&[key]).await else { panic!("stats in memory answer") };
    assert_eq!(values[0].as_deref(), Some(&b"0"[..]), "every queued entry was counted off again");
    let written = [ORIGIN, ("replicationStatus", "COMPLETED")];
    assert_eq!(bench.metrics.counter(&names::STATUS_CHANGED, &written), 50);

    // A restart begins where the shutdown ended: nothing is read or done again.
    let writes = bench.world.target_writes.lock().expect("no panic").len();
    let (populator, _populator_task) = bench.populator();
    let (_processor, _processor_task) = bench.processor().await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let summary = populator.summary().await.expect("it runs");
    assert_eq!((summary.queued, summary.position), (0, summary.end));
    assert_eq!(bench.world.target_writes.lock().expect("no panic").len(), writes);
}

#[tokio::test(start_paused = true)]
async fn journals_of_one_process_are_told_apart_in_metrics() {
    let bench = Bench::new().await;
    bench.world.put("k", "v1");
    for log_id in ["raft_1", "raft_2"] {
        let nodes = PositionNodes::new("/queue-populator", log_id).expect("a valid path");
        let (populator, task) = bench.populator_at(nodes);
        tokio::time::sleep(Duration::from_mins(1)).await;
        populator.shut_down().await;
        assert_eq!(task.await.expect("no panic"), None);
        let labels = [ORIGIN, ("logName", "memory"), ("logId", log_id)];
        assert_eq!(bench.metrics.counter(&names::POPULATOR_OBJECTS, &labels), 1);
        let offset = format!(
            r#"s3_replication_read_offset{{origin="replication",logName="memory",logId="{log_id}"}}"#
        );
        assert!(bench.metrics.encode().contains(&offset), "{}", bench.metrics.encode());
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_in_trouble_is_tried_again_until_it_is_well() {
    let bench = Bench::new().await;
    *bench.world.target_troubles.lock().expect("no panic") = vec![RefusalKind::Unavailable; 4];
    let (_populator, _populator_task) = bench.populator();
    let (_processor, _processor_task) = bench.processor().await;
    let (_status, _status_task) = bench.status().await;
    let object = bench.world.put("k", "v1");
    bench.world.settle(std::slice::from_ref(&object), "COMPLETED").await;
    assert!(bench.world.has_copy(&object));
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(exceptions(&bench).await, 0, "the record of the trouble is gone");
}

#[tokio::test(start_paused = true)]
async fn a_paused_site_copies_nothing_when_it_starts_until_it_is_resumed() {
    let bench = Bench::new().await;
    let (_populator, _populator_task) = bench.populator();
    let (_status, _status_task) = bench.status().await;
    let object = bench.world.put("k", "v1");
    tokio::time::sleep(Duration::from_mins(1)).await;
    // What waits is there before the site starts.
    let (processor, _processor_task) = bench.processor_of_site(true).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(processor.ask(|machine, _| machine.summary().paused).await, Some(true));
    assert!(!bench.world.has_copy(&object));
    processor.tell(Event::Control(Control::Resume)).await;
    bench.world.settle(std::slice::from_ref(&object), "COMPLETED").await;
    assert!(bench.world.has_copy(&object));
}

#[tokio::test(start_paused = true)]
async fn a_copy_under_way_is_finished_before_its_partition_is_given_back() {
    let bench = Bench::new().await;
    *bench.world.part_time.lock().expect("no panic") = Duration::from_secs(8);
    let (_populator, _populator_task) = bench.populator();
    let (_first, _first_task) = bench.processor().await;
    let (_status, _status_task) = bench.status().await;
    let objects: Vec<ObjectRef> =
        (0..8).map(|number| bench.world.put(&format!("key {number}"), &format!("v{number}"))).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A second member joins in the middle of every copy.
    let (second, _second_task) = bench.processor().await;
    bench.world.settle(&objects, "COMPLETED").await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    let partitions = second.ask(|machine, _| machine.summary().partitions).await;
    assert_eq!(partitions, Some(2), "the partitions are shared");
    let writes = bench.world.target_writes.lock().expect("no panic").len();
    assert_eq!(writes, objects.len(), "nothing was copied twice");
    assert_eq!(uncommitted(&bench, "replication").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_copies_no_longer_than_it_may() {
    let bench = Bench::new().await;
    *bench.world.part_time.lock().expect("no panic") = Duration::from_secs(50);
    let (_populator, _populator_task) = bench.populator();
    let (processor, task) = bench.processor().await;
    let object = bench.world.put("k", "v1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = bench.clock.now().mono;
    processor.shut_down().await;
    task.await.expect("no panic").expect("a clean end");
    let waited = bench.clock.now().mono.since(before);
    assert!(waited >= bench::DRAIN && waited < bench::DRAIN.saturating_mul(2), "{waited}");
    assert_eq!(processor.ask(|_, _| ()).await, None, "nobody answers after the end");
    assert!(uncommitted(&bench, "replication").await > 0, "what was not finished stays queued");

    let (_processor, _task) = bench.processor().await;
    let (_status, _status_task) = bench.status().await;
    bench.world.settle(&[object], "COMPLETED").await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_was_cut_off_is_read_on_and_the_loss_is_written_down() {
    let bench = Bench::new().await;
    let (populator, task) = bench.populator();
    for version in ["v1", "v2"] {
        bench.world.put("key", version);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    populator.shut_down().await;
    assert_eq!(task.await.expect("no panic"), None);
    for version in ["v3", "v4", "v5"] {
        bench.world.put("key", version);
    }
    bench.journal.truncate(Seq(4));
    let (populator, _task) = bench.populator();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let summary = populator.summary().await.expect("it runs");
    assert_eq!((summary.losses, summary.queued, summary.saved), (1, 2, Seq(6)));
    let node = NodePath::new("/queue-populator/queue-populator/logState/test/logLost").expect("a valid path");
    let Ending::Applied(node) = bench.coordination.connect().read(&node).await else {
        panic!("the loss is written down")
    };
    let lost: serde_json::Value = serde_json::from_slice(&node.data).expect("JSON");
    assert_eq!((&lost[0]["wanted"], &lost[0]["resumes"]), (&3.into(), &4.into()));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_status_write_overwrote_is_written_back_and_copied() {
    let bench = Bench::new().await;
    let (populator, _populator_task) = bench.populator();
    let (_processor, _processor_task) = bench.processor().await;
    let (_status, _status_task) = bench.status().await;
    let object = bench.world.put("key", "v1");
    let asked = bench.world.stored(&object);
    bench.world.settle(std::slice::from_ref(&object), "COMPLETED").await;
    let completed = bench.world.stored(&object);
    let changed = asked.with_members(&[("x-amz-meta-color", RawJson::string("red"))]);
    bench.world.write(&object, changed.clone());
    bench.world.write(&object, completed.with_origin_op(origin_op::COMPLETED));
    let comes_back = async {
        while bench.world.stored(&object).revision() != changed.revision() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), comes_back).await.expect("the change comes back");
    bench.world.settle(std::slice::from_ref(&object), "COMPLETED").await;
    assert_eq!(bench.world.stored(&object).revision(), changed.revision());
    let summary = populator.summary().await.expect("it runs");
    assert_eq!((summary.overwritten, summary.restored), (1, 1));
    assert_eq!(bench.world.copy(&object).text("x-amz-meta-color").as_deref(), Some("red"));
}
