//! Real servers for the tests of git-events-runner.

pub mod cluster;
