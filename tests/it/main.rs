//! End-to-end and component tests on real servers: one mongod and one Postgres for the run, a
//! database a test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::print_stdout,
    reason = "in a test, a failed expectation ends the test"
)]

mod support;

mod accepting;
mod address;
mod alerting;
mod aws;
mod binding;
mod bulk_load;
mod certificates;
mod changing;
mod channels;
mod checking;
mod codes;
mod commands;
mod comparing;
mod crashing;
mod cut;
mod documentdb;
mod drift;
mod exact;
mod failing_over;
mod fencing;
mod following;
mod foreign;
mod gate;
mod going_back;
mod groups;
mod init;
mod killing;
mod lagging;
mod large_transaction;
mod letters;
mod logging;
mod obeying;
mod one_thread;
mod page;
mod parking;
mod partitions;
mod poison;
mod pooling;
mod positions;
mod privacy;
mod refusals;
mod reloading;
mod replay;
mod resync;
mod resync_held;
mod retention;
mod rewinding;
mod roles;
mod rotation;
mod scope;
mod secrets;
mod segments;
mod sessions;
mod shapes;
mod sharing;
mod signals;
mod silence;
mod slowness;
mod snapshot;
mod strings;
mod sweeping;
mod thousand;
mod tls;
mod together;
mod trouble;
mod upgrading;
mod widening;
mod word;
mod written;
