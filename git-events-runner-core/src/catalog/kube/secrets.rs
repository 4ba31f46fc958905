use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Error};
use tokio::time::{Instant, timeout};

use crate::{
    CatalogError, ObjectRef,
    catalog::{
        repository::Specified,
        values::{self, Name, Values},
    },
};

/// How long one Secret may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How many bytes of Secrets are kept: some thousands of the usual size, or sixteen of the largest.
const MAX_KEPT: usize = 16 << 20;

/// Secrets of a cluster, read by their names and kept for a short time.
pub struct Secrets {
    client: Client,
    recent: Mutex<Recent>,
}

impl Secrets {
    pub fn new(client: Client, kept_for: Duration) -> Self {
        Self { client, recent: Mutex::new(Recent { kept_for, entries: BTreeMap::new(), kept: 0, tidy_at: None }) }
    }

    /// The Secrets that a repository names.
    pub async fn read(&self, of: &Specified<'_>) -> Result<BTreeMap<Name, Values>, CatalogError> {
        let names: BTreeSet<_> = of.secret_keys()?.into_iter().map(|key| key.secret).collect();
        let mut found = BTreeMap::new();
        for name in names {
            let values = self.one(of.id, &name).await?;
            found.insert(name, values);
        }
        Ok(found)
    }

    /// A Secret that an object names.
    pub async fn one(&self, of: &ObjectRef, name: &Name) -> Result<Values, CatalogError> {
        let kept = self.recent().get(name, Instant::now());
        match kept {
            Some(values) => Ok(values),
            None => self.read_now(of, name).await,
        }
    }

    /// Has what was refused read again, if nobody else has done so in the meantime.
    pub fn forget(&self, refused: &BTreeMap<Name, Values>) {
        let mut recent = self.recent();
        for (name, values) in refused {
            if recent.entries.get(name).is_some_and(|(_, kept)| kept == values) {
                recent.remove(name);
            }
        }
    }

    /// Has a Secret read again.
    pub fn forget_one(&self, name: &Name) {
        self.recent().remove(name);
    }

    async fn read_now(&self, of: &ObjectRef, name: &Name) -> Result<Values, CatalogError> {
        let (namespace, secret) = name;
        let not_found = |message: String| CatalogError::SecretNotFound { object: of.clone(), message };
        let asked_at = Instant::now();
        let answer = timeout(READ_WITHIN, Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(secret)).await;
        let values = match answer {
            Ok(Ok(Some(secret))) => Values::of_secret(secret),
            Ok(Ok(None)) => return Err(not_found(values::missing("Secret", namespace, secret))),
            Ok(Err(Error::Api(status))) if status.is_forbidden() => {
                let message = format!(
                    "the operator may not read the Secret {namespace}/{secret}: grant its ServiceAccount the verb get on secrets in {namespace}"
                );
                return Err(not_found(message));
            }
            Ok(Err(error)) => return Err(CatalogError::Unavailable(of.clone(), error.into())),
            Err(_late) => {
                let message = format!("the API server did not answer with the Secret {namespace}/{secret} within {READ_WITHIN:?}");
                return Err(CatalogError::Unavailable(of.clone(), message.into()));
            }
        };
        self.recent().keep(name.clone(), values.clone(), asked_at);
        Ok(values)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read a short time ago.
struct Recent {
    kept_for: Duration,
    entries: BTreeMap<Name, (Instant, Values)>,
    /// The size of all entries.
    kept: usize,
    /// When those that are too old are thrown out.
    tidy_at: Option<Instant>,
}

impl Recent {
    fn get(&self, name: &Name, now: Instant) -> Option<Values> {
        let (read_at, values) = self.entries.get(name)?;
        (now.duration_since(*read_at) < self.kept_for).then(|| values.clone())
    }

    fn keep(&mut self, name: Name, values: Values, read_at: Instant) {
        if self.tidy_at.is_none_or(|tidy_at| read_at >= tidy_at) {
            self.entries.retain(|_, (earlier, _)| read_at.duration_since(*earlier) < self.kept_for);
            self.kept = self.entries.iter().map(|(name, (_, values))| size(name, values)).sum();
            self.tidy_at = read_at.checked_add(self.kept_for);
        }
        self.remove(&name);
        let size = size(&name, &values);
        // All at once: each costs one request to read again.
        if self.kept + size > MAX_KEPT {
            self.entries.clear();
            self.kept = 0;
        }
        self.kept += size;
        self.entries.insert(name, (read_at, values));
    }

    fn remove(&mut self, name: &Name) {
        if let Some((_, values)) = self.entries.remove(name) {
            self.kept -= size(name, &values);
        }
    }
}

fn size((namespace, name): &Name, values: &Values) -> usize {
    // What is around them counts as well: small ones are many.
    256 + namespace.len() + name.len() + values.size()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn name(number: usize) -> Name {
        ("default".to_owned(), number.to_string())
    }

    fn values(size: usize) -> Values {
        Values::of_secret(Secret { data: Some([("key".to_owned(), ByteString(vec![b'x'; size]))].into()), ..Secret::default() })
    }

    fn recent() -> (Recent, Instant) {
        (Recent { kept_for: Duration::from_secs(60), entries: BTreeMap::new(), kept: 0, tidy_at: None }, Instant::now())
    }

    #[test]
    fn a_secret_is_kept_for_the_time_that_is_set() {
        let (mut recent, start) = recent();
        recent.keep(name(1), values(1), start);
        assert!(recent.get(&name(1), start + Duration::from_secs(59)).is_some());
        assert!(recent.get(&name(1), start + Duration::from_secs(60)).is_none());
        assert!(recent.get(&name(2), start).is_none());
        recent.keep(name(2), values(1), start + Duration::from_secs(60));
        assert_eq!(recent.entries.len(), 1, "what is too old takes no memory");
    }

    #[test]
    fn with_no_time_set_nothing_is_kept() {
        let (mut recent, start) = recent();
        recent.kept_for = Duration::ZERO;
        recent.keep(name(1), values(1), start);
        assert!(recent.get(&name(1), start).is_none());
    }

    #[test]
    fn no_more_bytes_are_kept_than_may_be() {
        let (mut recent, start) = recent();
        for number in 0..100 {
            recent.keep(name(number), values(1 << 20), start);
            let kept: usize = recent.entries.iter().map(|(name, (_, values))| size(name, values)).sum();
            assert!(kept == recent.kept && kept <= MAX_KEPT && recent.get(&name(number), start).is_some());
        }
    }
}
