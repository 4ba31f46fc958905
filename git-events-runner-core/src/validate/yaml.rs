//! YAML with the place of everything.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::Number;
use serde_saphyr::{Location, Spanned};

use super::MAX_FILE;

/// How deep documents may be nested.
const MAX_DEPTH: usize = 64;

/// How many values a file may have, and how many of them by way of aliases.
const MAX_VALUES: usize = 100_000;

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// Text that is no YAML.
pub struct Malformed {
    pub place: Place,
    pub message: String,
}

/// A value and where it is.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Node(Spanned<Yaml>);

pub enum Yaml {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map and where it is.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct Key(Spanned<String>);

impl Key {
    pub fn as_str(&self) -> &str {
        &self.0.value
    }

    pub fn place(&self) -> Place {
        self.0.referenced.into()
    }
}

impl Node {
    pub fn yaml(&self) -> &Yaml {
        &self.0.value
    }

    pub fn place(&self) -> Place {
        self.0.referenced.into()
    }

    pub fn map(&self) -> &[(Key, Node)] {
        match self.yaml() {
            Yaml::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn list(&self) -> Option<&[Node]> {
        match self.yaml() {
            Yaml::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.map().iter().find(|(known, _)| known.as_str() == key).map(|(_, node)| node)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)?.yaml() {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of a field such as `spec.names[2]`; of the innermost part of its path that is there when it is not there itself.
    pub fn place_of(&self, path: &str) -> Place {
        let (mut node, mut place) = (self, self.place());
        for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
            if let Some(index) = part.strip_suffix(']') {
                let Some(item) = node.list().and_then(|items| items.get(index.parse::<usize>().ok()?)) else { return place };
                (node, place) = (item, item.place());
            } else {
                let Some((key, value)) = node.map().iter().find(|(key, _)| key.as_str() == part) else { return place };
                (node, place) = (value, key.place());
            }
        }
        place
    }
}

/// The documents of a text, empty ones left out. What follows a syntax error is not read.
pub fn documents(text: &str) -> Vec<Result<Node, Malformed>> {
    if text.len() > MAX_FILE {
        let message = format!("the file is larger than {MAX_FILE} bytes");
        return vec![Err(Malformed { place: Place { line: 1, column: 1 }, message })];
    }
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_VALUES },
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = MAX_VALUES;
    let mut bytes = text.as_bytes();
    let read = serde_saphyr::read_with_options::<_, Node>(&mut bytes, options);
    let malformed = |error: serde_saphyr::Error| Malformed {
        place: error.location().map_or(Place { line: 1, column: 1 }, Place::from),
        message: format!("not YAML: {}", error.render_with_formatter(&serde_saphyr::UserMessageFormatter)),
    };
    read.map(|document| document.map_err(malformed)).collect()
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        Yaml::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(Yaml::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Yaml, E> {
        Number::from_f64(value).map(Yaml::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Yaml, E> {
        Ok(Yaml::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let mut list = vec![];
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Yaml::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Yaml, A::Error> {
        let mut map = Vec::<(Key, Node)>::new();
        while let Some((key, value)) = entries.next_entry::<Key, Node>()? {
            if map.iter().any(|(known, _)| known.as_str() == key.as_str()) {
                return Err(A::Error::custom(format!("the key `{}` is there twice", key.as_str())));
            }
            map.push((key, value));
        }
        Ok(Yaml::Map(map))
    }
}
