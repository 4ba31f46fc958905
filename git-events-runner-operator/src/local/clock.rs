//! tokio-cron-scheduler as the clock of local mode.
//!
//! It looks twice a second whether something is due, in an ordered store of ours, and runs one job that wakes what is. Its own store is not
//! used: that one keeps the offset of a zone instead of the zone, and loses firings when many are due at once.

use std::{future::ready, pin::Pin, sync::Arc};

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use tokio::sync::RwLock;
use tokio_cron_scheduler::{
    Context, JobCode, JobScheduler, JobSchedulerError, JobToRunAsync, MetaDataStorage, PinnedGetFuture, SimpleNotificationCode,
    SimpleNotificationStore, ToCode,
    job::job_data::{JobAndNextTick, JobStoredData, JobType, NonCronJob, job_stored_data::Job},
    store::{DataStore, InitStore},
};
use uuid::Uuid;

use super::agenda::Agenda;

/// How many messages its channels hold; there are four for each run of the job.
const CHANNEL: usize = 64;

/// A job that is due whenever it is listed, and whose next instant is nobody's business but ours.
const ONE_SHOT: i32 = JobType::OneShot as i32;

/// Any second in the past but 0, which would delete the job.
const LONG_AGO: u64 = 1;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

/// Starts to wake triggers when they are due. It ends by [`JobScheduler::shutdown`].
pub async fn start(agenda: Agenda) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new_with_storage_and_code(
        Box::new(Store(agenda.clone())),
        Box::<SimpleNotificationStore>::default(),
        Box::new(WakeDue(agenda)),
        Box::<SimpleNotificationCode>::default(),
        CHANNEL,
    )
    .await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Knows of one job, which is due whenever the agenda has something due.
struct Store(Agenda);

impl MetaDataStorage for Store {
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        let due = self.0.is_due(Timestamp::now());
        let job = JobAndNextTick { id: Some(Uuid::nil().into()), job_type: ONE_SHOT, next_tick: LONG_AGO, last_tick: None };
        answer(due.then_some(job).into_iter().collect())
    }

    fn set_next_and_last_tick(&mut self, _: Uuid, _: Option<DateTime<Utc>>, _: Option<DateTime<Utc>>) -> Answer<()> {
        answer(())
    }

    fn time_till_next_job(&mut self) -> Answer<Option<std::time::Duration>> {
        answer(None)
    }
}

impl DataStore<JobStoredData> for Store {
    fn get(&mut self, id: Uuid) -> Answer<Option<JobStoredData>> {
        answer(Some(JobStoredData {
            id: Some(id.into()),
            last_updated: None,
            last_tick: None,
            next_tick: LONG_AGO,
            job_type: ONE_SHOT,
            count: 0,
            extra: vec![],
            ran: false,
            stopped: false,
            job: Some(Job::NonCronJob(NonCronJob { repeating: false, repeated_every: 0 })),
            time_offset_seconds: 0,
        }))
    }

    fn add_or_update(&mut self, _: JobStoredData) -> Answer<()> {
        answer(())
    }

    fn delete(&mut self, _: Uuid) -> Answer<()> {
        answer(())
    }
}

impl InitStore for Store {
    fn init(&mut self) -> Answer<()> {
        answer(())
    }

    fn inited(&mut self) -> Answer<bool> {
        answer(true)
    }
}

/// The code of the one job.
struct WakeDue(Agenda);

impl ToCode<Box<JobToRunAsync>> for WakeDue {
    fn init(&mut self, _: &Context) -> Answer<()> {
        answer(())
    }

    fn get(&mut self, _: Uuid) -> PinnedGetFuture<Box<JobToRunAsync>> {
        let agenda = self.0.clone();
        let wake_due: Box<JobToRunAsync> = Box::new(move |_, _| {
            agenda.wake_due(Timestamp::now());
            Box::pin(ready(()))
        });
        answer(Some(Arc::new(RwLock::new(wake_due))))
    }
}

impl JobCode for WakeDue {}

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(ready(Ok(value)))
}
