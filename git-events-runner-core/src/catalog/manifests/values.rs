use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::Name;

/// What a Secret or a ConfigMap holds, by key. It is never shown.
pub struct Values(BTreeMap<String, Vec<u8>>);

impl Values {
    pub fn of_secret(secret: Secret) -> Self {
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        // As an API server does it: what is text wins.
        let text = secret.string_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        Self(data.chain(text).collect())
    }

    pub fn of_config_map(map: ConfigMap) -> Self {
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        Self(binary.chain(text).collect())
    }

    /// The keys whose values are text.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(key, value)| Some((key.as_str(), str::from_utf8(value).ok()?)))
    }

    fn text(&self, key: &str) -> Result<&str, String> {
        let value = self.0.get(key).ok_or_else(|| {
            let keys: Vec<_> = self.0.keys().map(String::as_str).collect();
            let only = if keys.is_empty() { "it is empty".to_owned() } else { format!("only: {}", keys.join(", ")) };
            format!("has no key `{key}`, {only}")
        })?;
        str::from_utf8(value).map_err(|_| format!("key `{key}` is not text"))
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

pub fn find<'a>(among: &'a BTreeMap<Name, Values>, kind: &str, namespace: &str, name: &str) -> Result<&'a Values, String> {
    among.get(&(namespace.to_owned(), name.to_owned())).ok_or_else(|| format!("there is no {kind} {namespace}/{name}"))
}

/// A value that is text; otherwise what is missing, as a sentence.
pub fn text<'a>(among: &'a BTreeMap<Name, Values>, kind: &str, namespace: &str, name: &str, key: &str) -> Result<&'a str, String> {
    find(among, kind, namespace, name)?.text(key).map_err(|missing| format!("the {kind} {namespace}/{name} {missing}"))
}
