//! What is in the Secrets of others.

use super::{known_hosts::Known, private_key};

/// The hosts in a file, or lines of it.
pub fn known_hosts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (host, port) in [("example.com", 22), ("git.example.com", 2222), ("::1", 22)] {
        let known = Known::of(text, host, port);
        assert_eq!(known.algorithms().len(), 6, "each kind of key is asked for once");
        assert!(known.unreadable.len() <= text.lines().count());
    }
}

/// A private key. What is wrong with one is told in a line that does not repeat it.
pub fn private_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for passphrase in [None, Some("canary")] {
        if let Err(why) = private_key::decode(text, passphrase) {
            assert!(why.len() < 500 && !why.contains('\n'), "{why}");
        }
    }
}
