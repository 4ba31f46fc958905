//! `git-events-runner config`.

use git_events_runner_core::crd::{RUNTIME_CONFIG_KEY, RUNTIME_CONFIG_NAME, RuntimeConfig};

use crate::{args, stdout};

/// Prints the runtime config with all its defaults: as it is, or as the ConfigMap of a Helm chart.
pub fn run(args: args::Config) -> anyhow::Result<()> {
    let args::Config { helm_template } = args;
    let config = stdout::yaml(&RuntimeConfig::default())?;
    stdout::print(&if helm_template { template(&config) } else { config })
}

fn template(config: &str) -> String {
    let config: String = config.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n  \
           name: {{{{ .Values.configMapName | default \"{RUNTIME_CONFIG_NAME}\" }}}}\n  \
           namespace: {{{{ .Release.Namespace }}}}\n\
         data:\n  \
           {RUNTIME_CONFIG_KEY}: |\n{config}"
    )
}
