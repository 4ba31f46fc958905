//! Triggers as policies of the engine.

use std::time;

use super::{ScheduleTrigger, WebhookTrigger};
use crate::{Plan, ScheduleError, TriggerId, patterns};

/// A specification that passes its schema, and still says nothing that can be done.
#[derive(Debug, thiserror::Error)]
#[error("spec.{path}: {message}")]
pub struct InvalidSpec {
    /// The field.
    pub path: &'static str,
    /// What is wrong with it.
    pub message: String,
}

fn invalid(path: &'static str) -> impl Fn(&dyn std::fmt::Display) -> InvalidSpec {
    move |error| InvalidSpec { path, message: error.to_string() }
}

impl ScheduleTrigger {
    /// When it fires, and what it wants done then; `id` is [`Self::id`], or another where there is no API server.
    ///
    /// # Errors
    ///
    /// What no schema can say.
    pub fn policy(&self, id: TriggerId) -> Result<crate::ScheduleTrigger, InvalidSpec> {
        let plan = plan(&self.spec.common, &id, self.metadata.generation)?;
        let schedule = self.spec.schedule.schedule(&id.uid)?;
        let trigger = crate::ScheduleTrigger::new(id, plan, schedule);
        Ok(match self.spec.schedule.starting_deadline_seconds {
            Some(seconds) => trigger.with_starting_deadline(time::Duration::from_secs(seconds.try_into().unwrap_or_default())),
            None => trigger,
        })
    }
}

impl WebhookTrigger {
    /// When it looks, and what it wants done then; `id` is [`Self::id`], or another where there is no API server.
    ///
    /// # Errors
    ///
    /// What no schema can say.
    pub fn policy(&self, id: TriggerId) -> Result<crate::WebhookTrigger, InvalidSpec> {
        let plan = plan(&self.spec.common, &id, self.metadata.generation)?;
        let trigger = crate::WebhookTrigger::new(id, plan);
        let Some(recheck) = &self.spec.webhook.recheck_interval else { return Ok(trigger) };
        let wrong = invalid("webhook.recheckInterval");
        let recheck = recheck.get().map_err(|error| wrong(&error))?;
        trigger.with_recheck(recheck).map_err(|error| wrong(&error))
    }
}

fn plan(spec: &super::TriggerSpec, id: &TriggerId, generation: Option<i64>) -> Result<Plan, InvalidSpec> {
    let plan = spec.plan(&id.namespace, generation.unwrap_or_default()).map_err(|error| invalid("sources.watchOn.reference")(&error))?;
    patterns::check(&plan.watch.files).map_err(|error| invalid("sources.watchOn.files")(&error))?;
    Ok(plan)
}

impl super::Schedule {
    /// The schedule of a trigger with this uid, from which its phase and its jitter come.
    ///
    /// # Errors
    ///
    /// What no schema can say, such as a day that no month has.
    pub fn schedule(&self, uid: &str) -> Result<crate::Schedule, InvalidSpec> {
        let (interval_path, cron_path) = ("schedule.interval", "schedule.cron");
        if let Some(interval) = &self.interval {
            let interval = interval.get().map_err(|error| invalid(interval_path)(&error))?;
            return crate::Schedule::interval(interval, uid).map_err(|error| invalid(interval_path)(&error));
        }
        let cron = self.cron.as_deref().unwrap_or_default();
        let jitter = self.jitter.as_ref().map(|jitter| jitter.get().map_err(|error| invalid("schedule.jitter")(&error))).transpose()?;
        crate::Schedule::cron(cron, self.time_zone.as_deref(), jitter, uid).map_err(|error| {
            let is_zone = matches!(error, ScheduleError::UnknownZone { .. }) && self.time_zone.is_some();
            invalid(if is_zone { "schedule.timeZone" } else { cron_path })(&error)
        })
    }
}
