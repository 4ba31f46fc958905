use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{
    CatalogError, ObjectRef, crd,
    source::git::{RepoUri, host_of_url},
};

/// The hosts that repositories, and the proxies on the way to them, may be on: so that those who write manifests cannot have the operator
/// ask every host that it reaches.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts {
    /// None: all.
    globs: Option<GlobSet>,
    text: String,
}

impl AllowedHosts {
    /// Hosts of which the name or address matches one of these, in which `*` stands for any characters: `*.example.com` is each host below
    /// `example.com`, and not that one. Without any, all hosts are allowed.
    ///
    /// # Errors
    ///
    /// Which of them is no pattern.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, globset::Error> {
        let (mut globs, mut texts) = (GlobSetBuilder::new(), vec![]);
        for pattern in patterns {
            globs.add(GlobBuilder::new(pattern).case_insensitive(true).build()?);
            texts.push(pattern);
        }
        let globs = if texts.is_empty() { None } else { Some(globs.build()?) };
        Ok(Self { globs, text: texts.join(", ") })
    }

    /// Refuses a repository that is, or is reached by a proxy that is, on another host.
    pub(super) fn check(&self, id: &ObjectRef, spec: &crd::Repository) -> Result<(), CatalogError> {
        let Some(globs) = &self.globs else { return Ok(()) };
        let repository = RepoUri::parse(&spec.repo_uri).ok().and_then(|uri| Some(uri.host()?.to_owned()));
        let proxy = spec.proxy.as_ref().map(|proxy| host_of_url(&proxy.url));
        // One that cannot be read is refused for that, wherever it is to be used.
        let named = [("repoUri", repository), ("proxy.url", proxy.flatten())];
        for (field, host) in named.into_iter().filter_map(|(field, host)| Some((field, host?))) {
            if !globs.is_match(&host) {
                let message = format!("{field}: the operator may ask only {}, and {host} is none of them (--allowed-hosts)", self.text);
                return Err(CatalogError::Invalid { object: id.clone(), message });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(hosts: &AllowedHosts, uri: &str, proxy: Option<&str>) -> bool {
        let mut spec = serde_json::json!({ "repoUri": uri });
        if let Some(proxy) = proxy {
            spec["proxy"] = serde_json::json!({ "url": proxy });
        }
        let spec = serde_json::from_value(spec).unwrap();
        match hosts.check(&ObjectRef::namespaced("GitRepo", "default", "app"), &spec) {
            Ok(()) => true,
            Err(error) => {
                assert!(error.to_string().contains("none of them"), "{error}");
                false
            }
        }
    }

    #[test]
    fn without_patterns_all_hosts_are_allowed() {
        assert!(allows(&AllowedHosts::default(), "https://any.example/a", None));
        assert!(allows(&AllowedHosts::new([]).unwrap(), "ssh://[::1]/a", Some("http://127.0.0.1:1")));
    }

    #[test]
    fn hosts_are_compared_whatever_the_transport_and_the_case() {
        let hosts = AllowedHosts::new(["*.example.com", "GitHub.com", "10.0.0.*"]).unwrap();
        for allowed in
            ["https://git.example.com/a", "git@github.com:a/b", "ssh://me@GIT.Example.com:22/a", "git://10.0.0.7/a", "http://10.0.0.7/a"]
        {
            assert!(allows(&hosts, allowed, None), "{allowed}");
        }
        for refused in
            ["https://example.com/a", "https://github.com.evil.net/a", "git@evilgithub.com:a", "http://10.0.1.7/a", "http://[::1]/a"]
        {
            assert!(!allows(&hosts, refused, None), "{refused}");
        }
    }

    #[test]
    fn a_proxy_is_a_host_as_well() {
        let hosts = AllowedHosts::new(["*.example.com"]).unwrap();
        assert!(allows(&hosts, "https://git.example.com/a", Some("http://proxy.example.com:3128")));
        assert!(!allows(&hosts, "https://git.example.com/a", Some("socks5://169.254.169.254:80")));
    }
}
