//! The init container, which checks the commit out.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{
        Capabilities, Container, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource, SeccompProfile, SecretProjection, SecurityContext,
        Volume, VolumeMount, VolumeProjection,
    },
};

use super::{
    build::{Blueprint, literal},
    origin::{JobClone, JobCredentials, MountedSecret},
};
use crate::{
    cloner::{arguments as flags, auth, files},
    crd::{AuthType, CloneOptions},
};

/// The volume with the credentials.
const CREDENTIALS: &str = "git-credentials";

/// The volume without anything.
const NOTHING: &str = "no-service-account-token";

/// Where a Pod finds the token of its ServiceAccount.
const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Everybody in the container may read the credentials: which user it runs as is not known here.
const READABLE: i32 = 0o444;

/// The user in place of root, where the Pod is to run as root.
const NOBODY: i64 = 65534;

pub fn container(of: &Blueprint<'_>) -> Container {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(&of.config.workdir.volume_name, of.workdir(), false), mount(NOTHING, TOKEN_FOLDER, true)];
    if of.origin.clone.credentials != JobCredentials::None {
        mounts.push(mount(CREDENTIALS, files::FOLDER, true));
    }
    Container {
        name: of.config.containers.cloner.name.clone(),
        image: Some(of.action.cloner_image.as_ref().unwrap_or(&of.config.containers.cloner.image).clone()),
        args: Some(arguments(of)),
        volume_mounts: Some(mounts),
        resources: of.action.resources.clone(),
        security_context: Some(restricted(of)),
        ..Container::default()
    }
}

/// The command line, none of which is ever part of a command.
fn arguments(of: &Blueprint<'_>) -> Vec<String> {
    let JobClone { uri, no_verify_ssl, insecure_ignore_host_key, known_hosts, auth, ca_certificates, proxy, credentials } =
        &of.origin.clone;
    let revision = of.origin.overridden.as_ref().map_or_else(|| of.run.revision(), |(_, revision)| revision.clone());
    let CloneOptions { depth, submodules } = of.action.clone.clone().unwrap_or_default();
    let auth = auth.map(|auth| match auth {
        AuthType::Basic => auth::BASIC,
        // What a GitHub App makes for this Job is a token.
        AuthType::Token | AuthType::GithubApp => auth::TOKEN,
        AuthType::Ssh => auth::SSH,
    });
    let always = [
        (flags::REPO_URI, uri.clone()),
        (flags::REFERENCE_TYPE, revision.reference.kind().to_owned()),
        (flags::REFERENCE_NAME, revision.reference.name()),
        (flags::COMMIT, revision.commit.to_string()),
        (flags::DESTINATION, of.workdir().to_owned()),
        (flags::DEPTH, depth.to_string()),
    ];
    let optional = [
        (flags::CREDENTIALS, (*credentials != JobCredentials::None).then(|| files::FOLDER.to_owned())),
        (flags::AUTH, auth.map(str::to_owned)),
        (flags::CA_FILE, ca_certificates.then(|| format!("{}/{}", files::FOLDER, files::CA_CERTIFICATES))),
        (flags::PROXY, proxy.clone()),
        (flags::KNOWN_HOSTS, known_hosts.clone()),
    ];
    let switches = [
        // The volume is the Job's own. When a node starts again, there may be something in it.
        (flags::EMPTY_DESTINATION, true),
        (flags::SUBMODULES, submodules),
        (flags::PRESERVE_GIT_FOLDER, of.action.preserve_git_folder),
        (flags::DEBUG, of.action.enable_cloner_debug),
        (flags::NO_VERIFY_SSL, *no_verify_ssl),
        (flags::INSECURE_IGNORE_HOST_KEY, *insecure_ignore_host_key),
    ];
    let values = always.into_iter().chain(optional.into_iter().filter_map(|(flag, value)| Some((flag, value?))));
    let values = values.map(|(flag, value)| format!("--{flag}={}", literal(&value)));
    values.chain(switches.into_iter().filter(|(_, is_on)| *is_on).map(|(flag, _)| format!("--{flag}"))).collect()
}

/// What the restricted Pod Security Standard asks for, and a root file system that nobody writes to.
fn restricted(of: &Blueprint<'_>) -> SecurityContext {
    let is_root = of.action.pod_security_context.as_ref().is_some_and(|pod| pod.run_as_user == Some(0));
    SecurityContext {
        run_as_non_root: Some(true),
        run_as_user: is_root.then_some(NOBODY),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
        ..SecurityContext::default()
    }
}

/// The volumes of both containers.
pub fn volumes(of: &Blueprint<'_>) -> Vec<Volume> {
    let empty = |name: &str| Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    let secrets = match &of.origin.clone.credentials {
        JobCredentials::None => None,
        JobCredentials::Mounted(secrets) => Some(secrets.iter().map(mounted).collect()),
        JobCredentials::Own => Some(vec![SecretProjection { name: of.run.key.name(), ..SecretProjection::default() }]),
    };
    let credentials = secrets.map(|secrets: Vec<_>| Volume {
        name: CREDENTIALS.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(READABLE),
            sources: Some(
                secrets.into_iter().map(|secret| VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }).collect(),
            ),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    });
    [empty(&of.config.workdir.volume_name), empty(NOTHING)].into_iter().chain(credentials).collect()
}

fn mounted(secret: &MountedSecret) -> SecretProjection {
    let item = |(key, file): (&String, &String)| KeyToPath { key: key.clone(), path: file.clone(), ..KeyToPath::default() };
    SecretProjection {
        name: secret.name.clone(),
        items: Some(secret.files.iter().map(item).collect()),
        optional: secret.optional.then_some(true),
    }
}

/// The repository that a Job was made for.
pub fn repo_uri(job: &Job) -> Option<String> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let mut arguments = pod.init_containers.iter().flatten().flat_map(|container| container.args.iter().flatten());
    let start = format!("--{}=", flags::REPO_URI);
    arguments.find_map(|argument| argument.strip_prefix(&start)).map(|uri| uri.replace("$$", "$"))
}

/// Whether a Job mounts a Secret of its own name, which is to be made before the Job begins.
pub fn has_own_secret(job: &Job) -> bool {
    let volumes = job.spec.iter().filter_map(|spec| spec.template.spec.as_ref()).flat_map(|pod| pod.volumes.iter().flatten());
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()).flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.secret.as_ref()).any(|secret| Some(&secret.name) == job.metadata.name.as_ref())
}
