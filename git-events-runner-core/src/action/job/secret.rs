//! The Secret that is made for one Job, when it begins.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{batch::v1::Job, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Client, Error, ResourceExt as _, api::PostParams};

use super::{FIELD_MANAGER, MANAGED_BY, failed};
use crate::{ActionError, crash_point::written};

/// Makes the Secret that a Job mounts under its own name. If it is there already, it is this Job's.
pub async fn create(client: &Client, job: &Job, files: BTreeMap<String, Vec<u8>>) -> Result<(), ActionError> {
    let (namespace, name, uid) = (job.namespace().unwrap_or_default(), job.name_any(), job.uid().unwrap_or_default());
    let api = Api::<Secret>::namespaced(client.clone(), &namespace);
    let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&how, &secret(&name, &uid, files)).await {
        Ok(_) => written("secret-created"),
        Err(Error::Api(answer)) if answer.is_already_exists() => {
            let found = match api.get_metadata_opt(&name).await {
                // Where Jobs run the operator need not be allowed to read Secrets. Nobody else makes a name of this kind by chance, and what is
                // not ours the cloner cannot use.
                Err(Error::Api(answer)) if answer.is_forbidden() => return Ok(()),
                found => found.map_err(failed)?,
            };
            if !found.is_some_and(|found| found.owner_references().iter().any(|owner| owner.uid == uid)) {
                let message =
                    format!("the Secret {namespace}/{name} is there already and does not belong to the Job of that name: remove it");
                return Err(ActionError::Unavailable(message.into()));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(())
}

fn secret(name: &str, uid: &str, files: BTreeMap<String, Vec<u8>>) -> Secret {
    let owner = OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    };
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(files.into_iter().map(|(name, content)| (name, ByteString(content))).collect()),
        immutable: Some(true),
        ..Secret::default()
    }
}
