//! Webhooks as forges send them: Gitea's as a real one has sent them, those of the others by their documentation. All are for this secret.

use std::{fs, path::Path};

use warp::http::{HeaderMap, HeaderName};

pub const SECRET: &str = "the-secret-of-the-hook";

/// The same for those that GitLab signs.
pub const SIGNING_TOKEN: &str = "whsec_dGhlLXNlY3JldC1vZi10aGUtaG9vaw==";

/// When GitLab has signed.
pub const SIGNED_AT: i64 = 1_767_225_600;

/// The headers and the body of `tests/data/webhooks/{name}.http`.
pub fn recorded(name: &str) -> (HeaderMap, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/webhooks").join(name).with_extension("http");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut headers = HeaderMap::new();
    for line in head.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    (headers, body.as_bytes().to_owned())
}
