//! The adapters of real services against the services: the conformance suite of their port, and what only a service
//! that can break has to show.

mod change_stream;
mod change_stream_daemons;
mod compose;
mod consumers;
mod daemons;
mod kafka;
mod kafka_security;
mod populator;
mod protected;
mod provisioning;
mod record_log;
mod record_log_daemons;
mod redis;
mod replication_setup;
mod resync;
mod roles;
mod s3_targets;
mod zookeeper;

use backbeat_backends::conformance::Case;
use backbeat_tests::services::Services;
use backbeat_tests::suite::{self, Test};
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::check_arguments();
    let services = Services::find(&["KAFKA", "REDIS", "ZOOKEEPER"]);
    let mut tests = redis::tests(&services);
    tests.extend(zookeeper::tests(&services));
    tests.extend(kafka::tests(&services));
    tests.extend(kafka_security::tests());
    tests.extend(protected::tests(&services));
    tests.extend(consumers::tests(&services));
    tests.extend(daemons::tests(&services));
    tests.extend(change_stream::tests(&services));
    tests.extend(change_stream_daemons::tests(&services));
    tests.extend(compose::tests());
    tests.extend(record_log::tests());
    tests.extend(record_log_daemons::tests(&services));
    tests.extend(replication_setup::tests());
    tests.extend(resync::tests(&services));
    tests.extend(roles::tests());
    tests.extend(s3_targets::tests(&services));
    suite::run(tests)
}

/// The cases of a port's suite, which need the service at `address`.
fn conformance(cases: Vec<Case>, address: &Result<String, String>) -> Vec<Test> {
    let tests = cases.into_iter().map(|(name, case)| {
        Test::new(name, address.clone(), move || {
            case();
            Ok(())
        })
    });
    tests.collect()
}
