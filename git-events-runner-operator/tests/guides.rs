//! The guides of the docs, followed step by step in a real cluster by somebody who pastes each block: what they say, happens.
//!
//! `UPDATE_DOCS=1` writes what was printed into the pages, all of it, so that a name is the same from block to block. `GUIDE=ssh` follows that page
//! only, and the first; the last one needs all before it.
#![expect(clippy::unwrap_used, reason = "what a test cannot set up fails it")]

mod guides {
    mod alike;
    mod follow;
    mod page;
    mod place;
    mod release;
    mod servers;
}
