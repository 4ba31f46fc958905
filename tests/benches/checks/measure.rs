//! Time of the clock and time of processors.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

/// What one repetition of something takes.
#[derive(Clone, Copy)]
pub struct Cost {
    /// The median.
    pub wall: Duration,
    /// The mean: the kernel tells that of child processes in hundredths of a second.
    pub cpu: Duration,
}

/// Whose time of processors counts.
#[derive(Clone, Copy)]
pub enum Whose {
    /// That of this process, with all its threads.
    Ours,
    /// That of the child processes that have ended, and of theirs.
    Children,
}

impl Whose {
    fn cpu(self) -> Result<Duration> {
        match self {
            Self::Ours => Ok(clock_gettime(ClockId::ProcessCPUTime).try_into()?),
            Self::Children => {
                let stat = std::fs::read_to_string("/proc/self/stat")?;
                let (_, fields) = stat.rsplit_once(") ").context("/proc/self/stat has another form")?;
                // cutime and cstime; the first field here is the third of the line.
                let ticks = fields.split(' ').skip(13).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
                Ok(Duration::from_secs(1) * ticks / u32::try_from(clock_ticks_per_second())?)
            }
        }
    }
}

/// Does something once, not counted, and then so many times; each time on what `prepare` has made, which is not counted either.
pub async fn repeat<T>(
    times: u32,
    whose: Whose,
    mut prepare: impl FnMut() -> T,
    mut run: impl AsyncFnMut(T) -> Result<()>,
) -> Result<Cost> {
    run(prepare()).await?;
    let (mut walls, mut cpu) = (vec![], Duration::ZERO);
    for _ in 0..times {
        let prepared = prepare();
        let (cpu_before, begin) = (whose.cpu()?, Instant::now());
        run(prepared).await?;
        walls.push(begin.elapsed());
        cpu += whose.cpu()? - cpu_before;
    }
    walls.sort();
    Ok(Cost { wall: walls[walls.len() / 2], cpu: cpu / times })
}

/// Milliseconds, for a table.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
