//! End-to-end and component tests on real servers: one mongod and one Postgres for the run, a database a test.

mod support;

mod following;
