//! Checks manifests as the API server and the controllers would, offline.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::{ObjectRef, crd};

mod checks;
mod kinds;
mod schema;
mod yaml;

pub use checks::runtime_config;
use kinds::Kinds;
use yaml::{Node, Place};

#[cfg(test)]
mod tests;

/// The most that is read of one file, in bytes. (An API server takes no object that is larger than this.)
pub const MAX_FILE: usize = 3 * 1024 * 1024;

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Where the manifests are to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a cluster.
    Cluster,
    /// In local mode, where repositories may also be folders: `repoUri` may be a path or `file:///path`.
    Local,
}

/// Reads manifests. It is expensive to make and cheap to use.
pub struct Reader {
    kinds: Kinds,
}

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Reading {
    /// The objects, in order, those with mistakes included.
    pub documents: Vec<Document>,
    /// All that is wrong, in order of place.
    pub mistakes: Vec<Mistake>,
    /// Where each object is among the documents for the first time.
    firsts: HashMap<ObjectRef, usize>,
}

/// One object of a file.
#[derive(Debug)]
pub struct Document {
    /// The file it was read from.
    pub file: String,
    /// Where it begins, from 1.
    pub line: u64,
    /// Which object it is. An object that names no namespace and needs one is in [`DEFAULT_NAMESPACE`].
    pub id: ObjectRef,
    /// The object, with defaults applied and its namespace set; None when there is a mistake in it.
    pub object: Option<Object>,
}

/// An object of one of the kinds that are read.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each variant is the kind of its name")]
pub enum Object {
    GitRepo(Box<crd::GitRepo>),
    ClusterGitRepo(Box<crd::ClusterGitRepo>),
    ScheduleTrigger(Box<crd::ScheduleTrigger>),
    WebhookTrigger(Box<crd::WebhookTrigger>),
    Action(Box<crd::Action>),
    ClusterAction(Box<crd::ClusterAction>),
    /// `stringData` is in `data` as well.
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
}

/// Something that is wrong in a file. It never holds a value of a Secret, nor any other value but of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// In which object, if that is known.
    pub object: Option<ObjectRef>,
    /// In which field, such as `spec.sources.names[2]`; empty when it is none.
    pub field: String,
    /// What is wrong, and where it helps, what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl Reader {
    /// A reader of manifests for this use.
    pub fn new(mode: Mode) -> Self {
        Self { kinds: Kinds::new(mode) }
    }

    /// Reads a file: YAML, one document or several. `file` is its name, for mistakes.
    pub fn read(&self, file: &str, text: &str) -> Reading {
        let mut reading = Reading::default();
        for document in yaml::documents(text) {
            match document {
                Ok(root) => self.read_root(file, &root, &mut reading),
                Err(yaml::Malformed { place, message }) => reading.mistakes.push(mistake(file, place, None, "", message)),
            }
        }
        reading
    }

    /// Reads an object, or a list of them.
    fn read_root(&self, file: &str, root: &Node, reading: &mut Reading) {
        let items = root.get("items").and_then(Node::list);
        match (root.text("kind"), items) {
            (Some(kind), Some(items)) if kind.ends_with("List") => items.iter().for_each(|item| self.read_object(file, item, reading)),
            _ => self.read_object(file, root, reading),
        }
    }

    fn read_object(&self, file: &str, root: &Node, reading: &mut Reading) {
        let kind = match self.kinds.of(root) {
            Ok(kind) => kind,
            Err((field, message)) => {
                reading.mistakes.push(mistake(file, root.place_of(field), None, field, message));
                return;
            }
        };
        let named = |field: &str| root.get("metadata").and_then(|metadata| metadata.text(field)).filter(|text| !text.is_empty());
        let Some(name) = named("name") else {
            let message = format!("a {} needs a name", kind.name);
            reading.mistakes.push(mistake(file, root.place_of("metadata.name"), None, "metadata.name", message));
            return;
        };
        let namespace = kind.namespaced.then(|| named("namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned());
        let id = ObjectRef { kind: kind.name.to_owned(), namespace, name: name.to_owned() };
        let (object, mistakes) = kind.read(&self.kinds, root, &id);
        let line = root.place().line;
        let found = mistakes.into_iter().map(|wrong| mistake(file, wrong.place, Some(&id), &wrong.field, wrong.message));
        reading.mistakes.extend(found);
        reading.add(Document { file: file.to_owned(), line, id, object });
    }
}

impl Reading {
    /// Adds what was found in another file.
    pub fn extend(&mut self, other: Self) {
        self.mistakes.extend(other.mistakes);
        for (index, document) in other.documents.into_iter().enumerate() {
            if other.firsts.get(&document.id) == Some(&index) {
                self.add(document);
            } else {
                // Repeated in its own file already, and told.
                self.documents.push(document);
            }
        }
    }

    /// Adds an object. Of two of the same kind and name, the second is a mistake.
    fn add(&mut self, mut document: Document) {
        match self.firsts.entry(document.id.clone()) {
            Entry::Vacant(first) => _ = first.insert(self.documents.len()),
            Entry::Occupied(first) => {
                let first = &self.documents[*first.get()];
                let message = format!("is there already, in {}:{}", first.file, first.line);
                let place = Place { line: document.line, column: 1 };
                self.mistakes.push(mistake(&document.file, place, Some(&document.id), "metadata.name", message));
                document.object = None;
            }
        }
        self.documents.push(document);
    }
}

fn mistake(file: &str, place: Place, object: Option<&ObjectRef>, field: &str, message: String) -> Mistake {
    let Place { line, column } = place;
    Mistake { file: file.to_owned(), line, column, object: object.cloned(), field: field.to_owned(), message }
}
