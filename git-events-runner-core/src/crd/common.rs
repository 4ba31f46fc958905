use std::{borrow::Cow, fmt, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema;

/// A length of time as users write it, such as `30s`, `5m`, `1h 30m` or `1day`: at least one second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

/// A text is not a length of time of at least one second.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration of at least 1s, such as `30s`, `5m` or `1h 30m`")]
pub struct NotADuration {
    text: String,
}

impl Duration {
    /// The length of time.
    pub fn get(&self) -> Result<time::Duration, NotADuration> {
        let not_a_duration = || NotADuration { text: self.0.chars().take(64).collect() };
        let parsed = crate::parse_duration(&self.0).map_err(|_malformed| not_a_duration())?;
        if parsed < time::Duration::from_secs(1) { Err(not_a_duration()) } else { Ok(parsed) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        const LONG: &str = "seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|\
                            months|month|M|years|year|yrs|yr|y";
        const SHORT: &str = "nanos|nsec|ns|usec|us|millis|msec|ms";
        json_schema!({
            "type": "string",
            "maxLength": 64,
            // Parts of less than a second count only together with a longer one, or from a thousand milliseconds up.
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('^ *([0-9]{{1,9}} *({LONG}) *|[0-9]{{1,15}} *({SHORT}) *)+$') && \
                                 (self.matches('(^|[^0-9])0*[1-9][0-9]* *({LONG})( |[0-9]|$)') || \
                                 self.matches('[1-9][0-9]{{3,}} *(millis|msec|ms)') || self.matches('[1-9][0-9]{{6,}} *(usec|us)') || \
                                 self.matches('[1-9][0-9]{{9,}} *(nanos|nsec|ns)'))"),
                "message": "must be a duration of at least 1s, such as 30s, 5m or 1h 30m",
            }],
        })
    }
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::NAME))]
    pub name: String,
}

/// A Secret, for kinds that may be of another namespace or of none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct NamespacedSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::NAME))]
    pub name: String,
    /// Namespace of the Secret. A ClusterGitRepo may name any that the operator may read; default: the namespace of the trigger.
    /// A GitRepo reads Secrets of its own namespace only, and naming another one makes it invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::NAMESPACE))]
    pub namespace: Option<String>,
}
