use std::{collections::BTreeMap, sync::Arc};

#[cfg(feature = "manifests")]
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Secret;

/// A Secret or a ConfigMap, by namespace and name.
pub type Name = (String, String);

/// What a Secret or a ConfigMap holds, by key. It is never shown. Clones share it.
#[derive(Clone, PartialEq, Eq)]
pub struct Values(Arc<BTreeMap<String, Vec<u8>>>);

impl Values {
    pub fn of_secret(secret: Secret) -> Self {
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        // As an API server does it: what is text wins.
        let text = secret.string_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        Self(Arc::new(data.chain(text).collect()))
    }

    #[cfg(feature = "manifests")]
    pub fn of_config_map(map: ConfigMap) -> Self {
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        Self(Arc::new(binary.chain(text).collect()))
    }

    /// The keys whose values are text.
    #[cfg(feature = "manifests")]
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

    /// How many bytes it takes.
    #[cfg(feature = "kube")]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

pub fn find<'a>(among: &'a BTreeMap<Name, Values>, kind: &str, namespace: &str, name: &str) -> Result<&'a Values, String> {
    among.get(&(namespace.to_owned(), name.to_owned())).ok_or_else(|| missing(kind, namespace, name))
}

/// What is said of a Secret or a ConfigMap that is not there.
pub fn missing(kind: &str, namespace: &str, name: &str) -> String {
    format!("there is no {kind} {namespace}/{name}")
}

/// A value that is text; otherwise what is missing, as a sentence.
pub fn text<'a>(among: &'a BTreeMap<Name, Values>, kind: &str, namespace: &str, name: &str, key: &str) -> Result<&'a str, String> {
    find(among, kind, namespace, name)?.text(key).map_err(|missing| format!("the {kind} {namespace}/{name} {missing}"))
}

/// As [`text`], but None if what is missing may be missing.
pub fn text_if_there<'a>(
    among: &'a BTreeMap<Name, Values>,
    kind: &str,
    namespace: &str,
    (name, key): (&str, &str),
    optional: bool,
) -> Result<Option<&'a str>, String> {
    let is_missing = || find(among, kind, namespace, name).map_or(true, |values| !values.0.contains_key(key));
    if optional && is_missing() { Ok(None) } else { text(among, kind, namespace, name, key).map(Some) }
}
