use super::*;

const SECRET: &str = "It's a Secret to Everybody";
const BODY: &[u8] = b"Hello, World!";

/// What GitHub's documentation has for this secret and this body.
const DIGITS: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn auth(auth_type: &str, header: Option<&str>) -> crd::WebhookAuth {
    let mut auth = serde_json::json!({ "type": auth_type, "secretRef": { "name": "hook" }, "key": "token" });
    if let Some(header) = header {
        auth["header"] = header.into();
    }
    serde_json::from_value(auth).unwrap()
}

fn proof(auth_type: &str, header: Option<&str>, secret: &str) -> Proof {
    Proof::by(&auth(auth_type, header), "x-trigger-auth", secret).unwrap()
}

fn headers(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    map
}

fn check(proof: &Proof, given: &[(&str, &str)], body: &[u8]) -> Result<(), Unproven> {
    proof.check(&headers(given), body, Timestamp::UNIX_EPOCH)
}

#[track_caller]
fn is_missing(checked: Result<(), Unproven>) {
    assert!(matches!(checked, Err(Unproven::Missing(_))), "{checked:?}");
}

#[track_caller]
fn is_wrong(checked: Result<(), Unproven>) {
    let Err(Unproven::Wrong(message)) = checked else { panic!("{checked:?}") };
    assert!(!message.contains(SECRET) && !message.contains(&DIGITS[..16]), "{message}");
}

/// Each type that signs the body, the header it does so in, and what stands before the digits.
const SIGNED: [(&str, Option<&str>, &str, &str); 6] = [
    ("github", None, "x-hub-signature-256", "sha256="),
    ("gitea", None, "x-gitea-signature", ""),
    ("gitea", None, "x-gogs-signature", ""),
    ("bitbucket", None, "x-hub-signature", "sha256="),
    ("hmac", None, "x-signature", "sha256="),
    ("hmac", Some("X-Build-Signature"), "x-build-signature", "sha256="),
];

#[test]
fn a_signature_of_this_body_by_this_key_is_right() {
    for (auth_type, renamed, header, prefix) in SIGNED {
        let proof = proof(auth_type, renamed, SECRET);
        assert!(proof.is_of_body());
        assert_eq!(check(&proof, &[(header, &format!("{prefix}{DIGITS}"))], BODY), Ok(()), "{auth_type} {header}");
        assert_eq!(check(&proof, &[(header, &format!("{prefix}{}", DIGITS.to_uppercase()))], BODY), Ok(()), "{auth_type} {header}");
    }
}

#[test]
fn any_other_signature_is_wrong_and_none_is_missing() {
    for (auth_type, renamed, header, prefix) in SIGNED {
        let (right, other) = (proof(auth_type, renamed, SECRET), proof(auth_type, renamed, "It's a Secret to Nobody"));
        let signature = format!("{prefix}{DIGITS}");
        is_wrong(check(&other, &[(header, &signature)], BODY));
        is_wrong(check(&right, &[(header, &signature)], b"Hello, World"));
        is_wrong(check(&right, &[(header, &signature)], b"Hello, World!\n"));
        is_wrong(check(&right, &[(header, &signature)], b""));
        for cut in [1, 2, 32, 63, 64] {
            let truncated = format!("{prefix}{}", &DIGITS[..64 - cut]);
            let checked = check(&right, &[(header, &truncated)], BODY);
            if truncated.is_empty() { is_missing(checked) } else { is_wrong(checked) }
        }
        for malformed in [
            format!("{signature}00"),
            format!("{signature} "),
            format!(" {signature}, {signature}"),
            format!("{prefix}{}", DIGITS.replace('7', "x")),
            format!("sha1={}", &DIGITS[..40]),
            format!("sha1={DIGITS}"),
            format!("sha512={DIGITS}{DIGITS}"),
            format!("SHA256={DIGITS}"),
            "ü".to_owned(),
            BASE64.encode(DIGITS.as_bytes()),
        ] {
            is_wrong(check(&right, &[(header, &malformed)], BODY));
        }
        is_wrong(check(&right, &[(header, &signature), (header, &signature)], BODY));
        is_missing(check(&right, &[], BODY));
        is_missing(check(&right, &[(header, "")], BODY));
        is_missing(check(&right, &[("x-trigger-auth", SECRET), ("x-gitlab-token", SECRET), ("authorization", SECRET)], BODY));
    }
    // What only looks the same.
    is_wrong(check(&proof("github", None, SECRET), &[("x-hub-signature-256", DIGITS)], BODY));
    is_wrong(check(&proof("gitea", None, SECRET), &[("x-gitea-signature", &format!("sha256={DIGITS}"))], BODY));
    is_missing(check(&proof("github", None, SECRET), &[("x-hub-signature", &format!("sha256={DIGITS}"))], BODY));
}

#[test]
fn a_right_signature_of_gogs_does_not_make_up_for_a_wrong_one_of_gitea() {
    let proof = proof("gitea", None, SECRET);
    is_wrong(check(&proof, &[("x-gitea-signature", &DIGITS.replace('7', "8")), ("x-gogs-signature", DIGITS)], BODY));
}

#[test]
fn a_token_is_compared_as_a_whole() {
    for (auth_type, renamed, header) in
        [("header", None, "x-trigger-auth"), ("header", Some("x-other"), "x-other"), ("gitlab", None, "x-gitlab-token")]
    {
        let proof = proof(auth_type, renamed, SECRET);
        assert!(!proof.is_of_body());
        assert_eq!(check(&proof, &[(header, SECRET)], BODY), Ok(()));
        for wrong in ["It's a Secret to Everybod", "It's a Secret to Everybody!", "it's a secret to everybody", "x"] {
            is_wrong(check(&proof, &[(header, wrong)], BODY));
        }
        is_wrong(check(&proof, &[(header, SECRET), (header, SECRET)], BODY));
        is_missing(check(&proof, &[], BODY));
        is_missing(check(&proof, &[(header, "")], BODY));
        is_missing(check(&proof, &[("x-hub-signature-256", &format!("sha256={DIGITS}"))], BODY));
    }
}

/// The example of the libraries of Standard Webhooks.
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SIGNED_BODY: &[u8] = br#"{"test": 2432232314}"#;
const ID: (&str, &str) = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
const TIMESTAMP: (&str, &str) = ("webhook-timestamp", "1614265330");
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

#[test]
fn a_signed_webhook_of_gitlab_is_verified_as_standard_webhooks_says() {
    let proof = proof("gitlab", None, SIGNING_SECRET);
    assert!(proof.is_of_body());
    let check = |given: &[(&str, &str)], body: &[u8], seconds_later: i64| {
        proof.check(&headers(given), body, Timestamp::from_second(1_614_265_330 + seconds_later).unwrap())
    };
    let signed = [ID, TIMESTAMP, ("webhook-signature", SIGNATURE)];
    assert_eq!(check(&signed, SIGNED_BODY, 0), Ok(()));
    assert_eq!(check(&signed, SIGNED_BODY, 300), Ok(()));
    assert_eq!(check(&signed, SIGNED_BODY, -300), Ok(()));
    let both = format!("v1,{} {SIGNATURE}", SIGNATURE.trim_start_matches("v1,").replace('g', "h"));
    assert_eq!(check(&[ID, TIMESTAMP, ("webhook-signature", &both)], SIGNED_BODY, 0), Ok(()), "by an old key and by this one");
    assert_eq!(check(&[&signed[..], &[("x-gitlab-token", "another")]].concat(), SIGNED_BODY, 0), Ok(()));

    is_wrong(check(&signed, SIGNED_BODY, 301));
    is_wrong(check(&signed, SIGNED_BODY, -301));
    is_wrong(check(&signed, br#"{"test": 2432232315}"#, 0));
    is_wrong(check(&[("webhook-id", "msg_other"), TIMESTAMP, signed[2]], SIGNED_BODY, 0));
    is_wrong(check(&[ID, ("webhook-timestamp", "1614265331"), signed[2]], SIGNED_BODY, 0));
    is_wrong(check(&[&signed[..], &signed[2..]].concat(), SIGNED_BODY, 0));
    is_wrong(check(&[&signed[..], &[ID]].concat(), SIGNED_BODY, 0));
    for signature in [
        SIGNATURE.trim_start_matches("v1,"),
        &SIGNATURE.replace("v1,", "v1a,"),
        &SIGNATURE.replace("v1,", "v2,"),
        &SIGNATURE[..SIGNATURE.len() - 4],
        "v1,",
        "v1",
        " ",
        &format!("v1,a v1,b v1,c v1,d {SIGNATURE}"),
    ] {
        is_wrong(check(&[ID, TIMESTAMP, ("webhook-signature", signature)], SIGNED_BODY, 0));
    }
    for given in [&signed[1..], &[signed[0], signed[2]], &signed[..2], &[("x-gitlab-token", SIGNING_SECRET)]] {
        is_missing(check(given, SIGNED_BODY, 0));
    }
}

#[test]
fn a_timestamp_that_is_signed_and_no_number_is_wrong() {
    let proof = proof("gitlab", None, SIGNING_SECRET);
    let signing = hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
    for timestamp in ["yesterday", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "1.5"] {
        let tag = hmac::sign(&signing, format!("id.{timestamp}.body").as_bytes());
        let signature = format!("v1,{}", BASE64.encode(tag.as_ref()));
        let given = [("webhook-id", "id"), ("webhook-timestamp", timestamp), ("webhook-signature", &signature)];
        is_wrong(check(&proof, &given, b"body"));
    }
}

#[test]
fn a_signing_token_that_cannot_be_one_is_told_without_repeating_it() {
    for secret in ["whsec_", "whsec_canary!", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"] {
        let Err(error) = Proof::by(&auth("gitlab", None), "x-trigger-auth", secret) else { panic!("{secret}") };
        assert_eq!(error.reason, Reason::InvalidSpec);
        assert!(!error.message.contains("canary") && !error.message.contains("MfKQ"), "{error}");
    }
}

#[test]
fn every_type_says_what_it_misses() {
    for auth_type in ["header", "github", "gitlab", "gitea", "bitbucket", "hmac"] {
        let webhook = crd::Webhook { auth_config: Some(auth(auth_type, None)), ..crd::Webhook::default() };
        let of = |value: &'static str| {
            let proof = Proof::of(&webhook, "x-trigger-auth", async move |_, _| Ok(value.to_owned()));
            futures_util::FutureExt::now_or_never(proof).unwrap()
        };
        let Err(empty) = of("") else { panic!("{auth_type}") };
        assert_eq!(empty.reason, Reason::SecretNotFound);
        assert!(of("token").is_ok(), "{auth_type}");
    }
}
