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
mod adopting;
mod alerting;
mod all_at_once;
mod aws;
mod binding;
mod bulk_load;
mod cancelling;
mod capped;
mod catching_up;
mod certificates;
mod changing;
mod channels;
mod checking;
mod children;
mod codes;
mod collecting;
mod columns_only;
mod commands;
mod comparing;
mod configured;
mod crashing;
mod cut;
mod days;
mod delivering;
mod documentdb;
mod drift;
mod emptied;
mod exact;
mod explaining;
mod failing_over;
mod fencing;
mod filter;
mod filter_find;
mod following;
mod foreign;
mod gate;
mod going_back;
mod groups;
mod held_up;
mod init;
mod killing;
mod lagging;
mod large_transaction;
mod letters;
mod log_level;
mod logging;
mod mapping;
mod marking;
mod muting;
mod next_steps;
mod obeying;
mod one_thread;
mod one_writer;
mod page;
mod parking;
mod partitions;
mod pausing;
mod poison;
mod pooling;
mod positions;
mod privacy;
mod projecting;
mod redaction;
mod refusals;
mod regrouping;
mod reloading;
mod repairing;
mod replay;
mod resync;
mod resync_held;
mod retention;
mod rewinding;
mod roles;
mod rotation;
mod scope;
mod secrets;
mod seen;
mod segments;
mod service_manager;
mod sessions;
mod shapes;
mod sharing;
mod signals;
mod silence;
mod slowness;
mod snapshot;
mod strings;
mod summing;
mod sweeping;
mod thousand;
mod tls;
mod together;
mod trouble;
mod upgrading;
mod versions;
mod watching;
mod widening;
mod word;
mod written;
