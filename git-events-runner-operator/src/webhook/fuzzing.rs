//! What strangers send to a webhook, as `fuzz/` and its corpus hand it over: headers, an empty line, and a body. Panics if it is taken for what it
//! is not.

use std::{collections::BTreeSet, future::ready};

use data_encoding::{BASE64, HEXLOWER};
use form_urlencoded::byte_serialize;
use futures_util::FutureExt as _;
use git_events_runner_core::{crd, git::RepoUri};
use jiff::Timestamp;
use ring::hmac;
use serde_json::json;
use warp::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    matching::{Listening, Look},
    payload::{Forge, Said},
    proof::Proof,
};

/// Each method by which requests prove themselves, and each forge.
pub const TARGETS: [&str; 6] = ["bitbucket", "gitea", "github", "gitlab", "header", "hmac"];

/// What the recorded webhooks are signed with, and when.
const SECRET: &str = "the-secret-of-the-hook";
const SIGNING_TOKEN: &str = "whsec_dGhlLXNlY3JldC1vZi10aGUtaG9vaw==";
const SIGNED_AT: i64 = 1_767_225_600;

/// Where sources of the trigger are. Of the other it is not known.
const PLACES: [(&str, &str); 2] = [("at-github", "git@github.com:team/app.git"), ("at-gitlab", "https://gitlab.example.com/team/app")];

/// Reads a request to a trigger of this type.
pub fn read(auth_type: &str, data: &[u8]) {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..end], data.get(end + 2..).unwrap_or_default());
    let headers = headers(head);
    let spec = spec(auth_type);
    prove(&spec.webhook, auth_type, SECRET, &headers, body);
    if auth_type == "gitlab" {
        prove(&spec.webhook, auth_type, SIGNING_TOKEN, &headers, body);
    }
    let Some(forge) = spec.webhook.auth_config.as_ref().and_then(|auth| Forge::of(auth.auth_type)) else { return };
    let _ = (forge.delivery(&headers), forge.can_sign(&headers));
    let Ok(said) = forge.read(&headers, body) else { return };
    is_the_same_in_a_form(forge, &headers, body, &said);
    matches(&spec, &said);
}

fn headers(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.windows(2).position(|two| two == b": ") else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 2..])) {
            let _full = headers.try_append(name, value);
        }
    }
    headers
}

fn spec(auth_type: &str) -> crd::WebhookTriggerSpec {
    let spec = json!({
        "sources": { "names": ["at-github", "at-gitlab", "somewhere"], "watchOn": { "onChangeOnly": true, "reference": { "branch": "main" } } },
        "action": { "kind": "Action", "name": "build" },
        "webhook": { "authConfig": { "type": auth_type, "secretRef": { "name": "hook" }, "key": "token" } },
    });
    serde_json::from_value(spec).expect("it is a trigger")
}

/// A request is let in if it has what whoever knows the secret would have sent, and never otherwise.
fn prove(webhook: &crd::Webhook, auth_type: &str, secret: &str, headers: &HeaderMap, body: &[u8]) {
    let proof = Proof::of(webhook, "x-trigger-auth", |_, _| ready(Ok(secret.to_owned()))).now_or_never().expect("nothing is waited for");
    let proof = proof.unwrap_or_else(|no_proof| panic!("{no_proof}"));
    let now = Timestamp::from_second(SIGNED_AT).expect("it is a time");
    let (name, right) = right(auth_type, secret, headers, body);
    match proof.check(headers, body, now) {
        Ok(()) => {
            let given: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            let is_right = match name {
                "x-trigger-auth" | "x-gitlab-token" => given == [right.as_str()],
                "webhook-signature" => given.len() == 1 && given[0].split(' ').any(|one| one == right),
                _ => given.len() == 1 && given[0].eq_ignore_ascii_case(&right),
            };
            assert!(is_right, "{name} is {given:?} and not {right}, and was let in");
        }
        Err(unproven) => {
            let message = unproven.to_string();
            assert!(message.len() < 200 && !message.contains(secret) && !message.contains(&right), "{message}");
        }
    }
    let mut sent = headers.clone();
    let once = |headers: &mut HeaderMap, name: &'static str, value: &str| headers.insert(name, value.parse().expect("it is ASCII"));
    once(&mut sent, "webhook-id", "1");
    once(&mut sent, "webhook-timestamp", &SIGNED_AT.to_string());
    sent.remove("x-gitea-signature");
    let (name, right) = self::right(auth_type, secret, &sent, body);
    once(&mut sent, name, &right);
    assert_eq!(proof.check(&sent, body, now), Ok(()));
    if proof.is_of_body() {
        assert!(proof.check(&sent, &[body, b" "].concat(), now).is_err(), "it was signed without what was added");
    }
}

/// The header, and what whoever knows the secret sends in it.
fn right(auth_type: &str, secret: &str, headers: &HeaderMap, body: &[u8]) -> (&'static str, String) {
    let sign = |key: &[u8], signed: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed);
    let digits = || HEXLOWER.encode(sign(secret.as_bytes(), body).as_ref());
    match auth_type {
        "header" => ("x-trigger-auth", secret.to_owned()),
        "hmac" => ("x-signature", format!("sha256={}", digits())),
        "github" => ("x-hub-signature-256", format!("sha256={}", digits())),
        "bitbucket" => ("x-hub-signature", format!("sha256={}", digits())),
        "gitea" if headers.contains_key("x-gitea-signature") => ("x-gitea-signature", digits()),
        "gitea" => ("x-gogs-signature", digits()),
        _ => match secret.strip_prefix("whsec_") {
            None => ("x-gitlab-token", secret.to_owned()),
            Some(key) => {
                let part = |name| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
                let signed = [part("webhook-id"), part("webhook-timestamp"), body].join(&b'.');
                let key = BASE64.decode(key.as_bytes()).expect("it is Base64");
                ("webhook-signature", format!("v1,{}", BASE64.encode(sign(&key, &signed).as_ref())))
            }
        },
    }
}

/// A forge can be told to send the same in a form.
fn is_the_same_in_a_form(forge: Forge, headers: &HeaderMap, body: &[u8], said: &Said) {
    let mut headers = headers.clone();
    let is_json = headers.remove(header::CONTENT_TYPE).is_none_or(|kind| kind == "application/json");
    if is_json && std::str::from_utf8(body).is_ok() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let form: String = ["payload="].into_iter().chain(byte_serialize(body)).collect();
        assert_eq!(forge.read(&headers, form.as_bytes()).as_ref(), Ok(said));
    }
}

/// What is to be looked at are sources of the trigger, and a commit that the webhook has named. All count, if nothing can be read.
fn matches(spec: &crd::WebhookTriggerSpec, said: &Said) {
    let plan = spec.common.plan("default", 1).expect("it is a trigger");
    let listening = Listening::new(&spec.webhook, &plan, |source| {
        PLACES.iter().find(|(name, _)| *name == source.name).and_then(|(_, uri)| RepoUri::parse(uri).ok())
    });
    let listening = listening.expect("it is a forge's");
    let sources: BTreeSet<_> = plan.sources.iter().map(|source| source.name.clone()).collect();
    let looked_at = listening.matching(said, &sources);
    if said.event.is_none() && said.repository.is_empty() && said.moved.is_none() {
        assert_eq!(looked_at, Ok(Look { sources, commit: None }));
    } else if let Ok(look) = looked_at {
        assert!(!look.sources.is_empty() && look.sources.is_subset(&sources));
        let named = said.moved.iter().flatten().filter_map(|moved| moved.commit.as_ref());
        assert!(look.commit.is_none_or(|commit| named.into_iter().any(|named| *named == commit)));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// What the fuzz targets have come upon, and what forges send.
    #[test]
    fn the_corpus_of_each_fuzz_target_is_read_as_it_should_be() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = |folder: &str| -> Vec<_> {
            let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
            entries.map(|entry| entry.unwrap().path()).collect()
        };
        let recorded = files("tests/data/webhooks");
        assert!(recorded.len() > 20);
        for target in super::TARGETS {
            assert!(root.join(format!("fuzz/fuzz_targets/{target}.rs")).exists(), "{target} can be fuzzed");
            for file in files(&format!("fuzz/corpus/{target}")).iter().chain(&recorded) {
                println!("{target} {}", file.display());
                super::read(target, &fs::read(file).unwrap());
            }
        }
        assert_eq!(files("fuzz/fuzz_targets").len(), super::TARGETS.len());
    }
}
