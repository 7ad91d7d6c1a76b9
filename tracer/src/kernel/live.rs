//! The live source: the running kernel's packets as records.
//!
//! Starting checks what can be known beforehand (privilege, kernel, sizes), so that errors name
//! the cause; then it loads and attaches by the attach plan. Everything in the kernel hangs on
//! file descriptors of this process and goes with them, also when it is killed.
//!
//! While there is traffic the reader looks by its own clock, and is woken when the ring fills before that.
//! While there is none it sleeps, and the first record wakes it. Ending detaches
//! first and then reads what is left, so that nothing that was seen is missing at the end; but for what
//! was seen while only some of the hooks were attached, at the beginning and at the end.

mod beforehand;
mod error;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    io,
    ops::Range,
    time::{Duration, Instant},
};

use aya::Btf;
use tokio::{runtime::Handle, select, time::sleep};
use tracer_common::{cpu::CpuState, filter::Program, reader};

use super::{
    attach::{self, Attached},
    btf::KernelBtf,
    budget::{Budget, governor::Governor},
    cast::Cast,
    clock,
    coverage::{Coverage, Node},
    faults::Faults,
    limits,
    load::{self, Counters, Filter, LoadError, Reader, Sizes},
    object::Object,
    owners::Owners,
    plan::{Kind, NetfilterWay, Plan, Readiness, version},
    ring::Ring,
};
use crate::{
    node::{
        reasons::DropReasons,
        sockets::{Answer, Holder, Listeners, PortQuestion, Question, Worker},
        watch::Watch,
    },
    source::{Batch, ListeningSocket, Notice, Shedding, SocketProcess, Source, Statistics},
};

pub use beforehand::check;
#[cfg(test)]
pub(super) use beforehand::possible;
pub(super) use beforehand::{OLDEST, understand};
use beforehand::{look, refuse};
pub use error::{LiveError, StartError};

/// From here on, who has a map's descriptor needs no privilege to use it.
const FREE_MAPS: (u32, u32) = (6, 0);
/// Between two looks at the ring while there is traffic.
const BUSY: Duration = Duration::from_millis(10);
/// The same while there is none, where the next record does not wake it.
const IDLE: Duration = Duration::from_millis(40);
/// The same where it does.
const ASLEEP: Duration = Duration::from_millis(250);
/// Without a record for so long, nothing is on its way: what is missing is lost.
const SETTLED: Duration = Duration::from_millis(50);
/// Without a record for so long, there is no traffic.
const QUIET: Duration = Duration::from_millis(200);
/// Between two statistics.
const STATISTICS: Duration = Duration::from_secs(2);
/// How long the end waits for programs that were running when they were detached.
const LAST_RECORDS: Duration = Duration::from_millis(200);
/// How much longer it waits for processes that are looked for.
const LAST_ANSWERS: Duration = Duration::from_millis(800);
/// Namespaces kept in mind that pass netfilter hooks; when there are more, it begins anew.
const MAX_FLAGGED: usize = 4096;

/// What to trace, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Which packets.
    pub filter: &'a Program,
    /// Sizes of the kernel side.
    pub sizes: Sizes,
    /// How to see netfilter's hooks; `None`: the best that works.
    pub netfilter: Option<NetfilterWay>,
    /// How many bytes of each packet are kept; `None`: of DNS answers only.
    pub bytes: Option<u32>,
    /// How much tracing may cost; `None`: whatever it takes.
    pub budget: Option<Budget>,
}

impl<'a> Options<'a> {
    /// What the filter matches, with the usual sizes, in the best way that works, whatever it costs.
    #[must_use]
    pub fn of(filter: &'a Program) -> Self {
        Self {
            filter,
            sizes: Sizes::default(),
            netfilter: None,
            bytes: None,
            budget: None,
        }
    }
}

/// The running kernel, traced.
#[derive(Debug)]
pub struct Live {
    /// To be said first: since when everything is seen, and netfilter's hooks everywhere.
    first: Vec<Notice>,
    /// What is seen from when everything was attached until something was detached: outside of that
    /// a packet is seen at some hooks and not at others.
    whole: Range<u64>,
    plan: Plan,
    reasons: DropReasons,
    /// Detached when this is gone.
    attached: Option<aya::Ebpf>,
    coverage: Coverage,
    /// Finds processes; without, they stay unknown.
    sockets: Option<Worker>,
    filter: Filter,
    ring: Ring,
    owners: Owners,
    counters: Counters,
    governor: Option<Governor>,
    reader: Reader,
    /// It said so, and has not been woken since: the next record wakes it.
    asleep: bool,
    flagged: HashSet<u32>,
    state: State,
    last_record: Instant,
    next_statistics: Instant,
    /// The last batch was full: others should have their turn before the next.
    full: bool,
}

#[derive(Debug)]
enum State {
    Running,
    /// Detached; the rest is awaited until then.
    Ending(Instant),
    Ended,
}

impl Live {
    /// Loads, attaches, and links netfilter hooks in the namespaces that have rules; what happens
    /// from its return on is seen. Blocks meanwhile, for some tenths of a second.
    ///
    /// # Errors
    /// [`StartError`]; without a tokio runtime [`StartError::System`].
    pub fn start(options: Options<'_>, node: Node) -> Result<Self, StartError> {
        Handle::try_current().map_err(io::Error::other)?;
        let surroundings = look(options.sizes)?;
        let kernel = KernelBtf::load()?;
        let (offsets, facts) = understand(&kernel, &surroundings)?;
        let mut plan = Plan::new(&facts, options.netfilter);
        if options.bytes.is_none() {
            plan.leave_out(Kind::Bytes);
        }
        refuse(&plan, options.netfilter)?;
        let reasons = kernel.drop_reasons();
        let version = version(&plan.release);
        limits::lift_locked_memory(version);
        let faults = Faults::of(version);
        let object =
            Object::new(&offsets, faults, Cast::find(&kernel, faults)).map_err(LoadError::from)?;
        // One decoded BTF at a time: each takes tens of megabytes, which is what a start takes most.
        drop(kernel);
        let btf = Btf::from_sys_fs()?;
        let ebpf = load::load(&object, &btf, options.sizes, options.filter, options.bytes)?;
        let attached = attach::carry_out(&mut plan, &object, ebpf, &btf);
        let Attached {
            mut ebpf,
            netfilter,
        } = attached;
        if plan.readiness() == Readiness::Impossible {
            return Err(StartError::Devices(
                plan.lack(Kind::Devices).unwrap_or_default(),
            ));
        }
        refuse(&plan, options.netfilter)?;
        let now = Instant::now();
        let since = clock::now();
        let mut first = vec![Notice::Began { time: since }];
        if plan.sees_netfilter_everywhere() {
            first.push(Notice::NetfilterEverywhere { time: since });
        }
        Ok(Self {
            first,
            whole: since..u64::MAX,
            plan,
            reasons,
            filter: load::take_filter(&mut ebpf)?,
            ring: Ring::new(load::take_ring(&mut ebpf)?)?,
            owners: load::take_owners(&mut ebpf)?,
            counters: load::take_counters(&mut ebpf)?,
            governor: options
                .budget
                .map(|budget| {
                    Ok::<_, LoadError>(Governor::new(budget, load::take_shed(&mut ebpf)?))
                })
                .transpose()?,
            reader: load::take_reader(&mut ebpf)?,
            asleep: false,
            attached: Some(ebpf),
            coverage: Coverage::start(netfilter, node)?,
            // Where no thread can be had, processes that are looked for stay unknown.
            sockets: Worker::start().ok(),
            flagged: HashSet::new(),
            state: State::Running,
            last_record: now,
            next_statistics: now + STATISTICS,
            full: false,
        })
    }

    /// What was attached, and how that went.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// This kernel's drop reasons.
    #[must_use]
    pub fn reasons(&self) -> &DropReasons {
        &self.reasons
    }

    /// What is known of the node: snapshots, and requests to read a namespace again.
    #[must_use]
    pub fn node(&self) -> &Watch {
        self.coverage.watched()
    }

    /// Whether reading and writing maps takes a privilege, as it does before 6.0 where
    /// `kernel.unprivileged_bpf_disabled` is set (`__sys_bpf`).
    #[must_use]
    pub fn needs_bpf(&self) -> bool {
        version(&self.plan.release).is_none_or(|version| version < FREE_MAPS)
    }

    /// Replaces the filter; flows that are followed already stay followed.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn set_filter(&mut self, filter: &Program) -> Result<(), LoadError> {
        self.filter.set(filter)
    }

    /// Says again whose the sockets are that send from now on, as a part of a recording needs it.
    pub fn say_owners_again(&mut self) {
        self.owners.forget();
    }

    /// Has the process found out that holds a socket; what is found comes as [`Notice::Socket`].
    pub fn ask(&self, question: Question) {
        if let Some(worker) = &self.sockets {
            worker.ask(question);
        }
    }

    /// Has it found out who listens at a port; what is found comes as [`Notice::Listeners`].
    pub fn ask_port(&self, question: PortQuestion) {
        if let Some(worker) = &self.sockets {
            worker.ask_port(question);
        }
    }

    fn take_answers(&self, notices: &mut Vec<Notice>) {
        let answers = self.sockets.iter().flat_map(Worker::answers);
        notices.extend(answers.map(|Answer { question, process }| Notice::Socket {
            netns: question.netns,
            protocol: question.protocol,
            local: question.local,
            remote: question.remote,
            process: told(process),
        }));
        let listeners = self.sockets.iter().flat_map(Worker::listeners);
        let time = clock::now();
        notices.extend(listeners.map(|found| listening(found, time)));
    }

    /// What there is now, or `None` when that is nothing.
    fn collect(&mut self) -> Result<Option<Batch>, LiveError> {
        let mut batch = Batch {
            notices: std::mem::take(&mut self.first),
            ..Batch::default()
        };
        let changed = self.keep_budget()?;
        batch.notices.extend(changed);
        let (flagged, coverage) = (&mut self.flagged, &self.coverage);
        self.full = self.ring.drain(&mut batch, |netns| {
            if flagged.insert(netns) {
                coverage.flagged(netns);
            }
        });
        let whole = &self.whole;
        batch
            .records
            .retain(|record| whole.contains(&record.time()));
        // After the records, so that no notice is missing that belongs before them.
        let owners = batch.records.iter();
        let owners = owners.filter_map(|record| self.owners.of(record));
        batch.notices.extend(owners);
        self.take_coverage(&mut batch.notices);
        self.take_answers(&mut batch.notices);
        let now = Instant::now();
        if !batch.records.is_empty() {
            self.last_record = now;
            self.node().traced();
        } else if now - self.last_record > SETTLED {
            batch.notices.extend(self.ring.settle());
        }
        if now >= self.next_statistics {
            self.next_statistics = now + STATISTICS;
            let statistics = self.statistics(&self.counters.read()?, clock::now());
            let notice = Notice::Statistics(Box::new(statistics));
            batch.notices.push(notice);
            // Ask again about namespaces that had no rules when they were last looked at.
            self.flagged.clear();
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn statistics(&self, cpus: &[CpuState], time: u64) -> Statistics {
        let governor = self.governor.as_ref();
        Statistics {
            shedding: governor.map_or(Shedding::None, Governor::shedding),
            ..self.ring.statistics(cpus, time)
        }
    }

    /// Has more or less be seen, if tracing costs more or less than it may; says so.
    fn keep_budget(&mut self) -> Result<Option<Notice>, LiveError> {
        let now = clock::now();
        let Some(governor) = self
            .governor
            .as_mut()
            .filter(|governor| governor.is_due(now))
        else {
            return Ok(None);
        };
        let cpus = self.counters.read()?;
        if !governor.look(now, &cpus)? {
            return Ok(None);
        }
        let statistics = self.statistics(&cpus, now);
        Ok(Some(Notice::Statistics(Box::new(statistics))))
    }

    fn take_coverage(&mut self, notices: &mut Vec<Notice>) {
        if self.flagged.len() > MAX_FLAGGED {
            self.flagged.clear();
        }
        notices.extend(self.coverage.take_notices());
    }

    /// The last batch, once all has come that can.
    fn conclude(&mut self, deadline: Instant) -> Result<Option<Batch>, LiveError> {
        let awaited = self.sockets.as_ref().is_some_and(Worker::is_busy);
        if awaited && Instant::now() < deadline + LAST_ANSWERS {
            return Ok(None);
        }
        let mut notices = Vec::new();
        self.take_answers(&mut notices);
        if !notices.is_empty() {
            return Ok(Some(Batch {
                notices,
                records: Vec::new(),
            }));
        }
        let cpus = self.counters.read()?;
        let mut statistics = self.statistics(&cpus, clock::now());
        if !self.ring.is_complete(&statistics) && Instant::now() < deadline {
            return Ok(None);
        }
        let losses = self.ring.finish(&mut statistics, &cpus);
        let mut notices: Vec<Notice> = losses.into_iter().map(Notice::Loss).collect();
        notices.push(Notice::Statistics(Box::new(statistics)));
        self.state = State::Ended;
        Ok(Some(Batch {
            notices,
            records: Vec::new(),
        }))
    }

    async fn wait(&mut self) {
        let pause = if self.last_record.elapsed() < QUIET {
            self.reader.waits(reader::BY_CLOCK);
            self.asleep = false;
            BUSY
        } else if self.asleep {
            ASLEEP
        } else {
            self.asleep = self.reader.waits(reader::BY_RECORD);
            // A record of just now may not have known of it: once more by the clock.
            if self.asleep { BUSY } else { IDLE }
        };
        select! {
            // Also by what is no packet's record, as its bytes: who is to be woken again must say so.
            () = self.ring.filling() => self.asleep = false,
            () = sleep(pause) => {}
        }
    }
}

impl Source for Live {
    type Error = LiveError;

    async fn next(&mut self) -> Result<Option<Batch>, LiveError> {
        if std::mem::take(&mut self.full) {
            tokio::task::yield_now().await;
        }
        loop {
            if matches!(self.state, State::Ended) {
                return Ok(None);
            }
            if let Some(batch) = self.collect()? {
                return Ok(Some(batch));
            }
            match self.state {
                State::Ending(deadline) => match self.conclude(deadline)? {
                    Some(last) => return Ok(Some(last)),
                    None => sleep(Duration::from_millis(1)).await,
                },
                _ => self.wait().await,
            }
        }
    }

    fn finish(&mut self) {
        if matches!(self.state, State::Running) {
            self.whole.end = clock::now();
            self.attached = None;
            self.coverage.stop();
            if let Some(sockets) = &self.sockets {
                sockets.hurry();
            }
            self.state = State::Ending(Instant::now() + LAST_RECORDS);
        }
    }
}

fn told(holder: Holder) -> SocketProcess {
    SocketProcess {
        pid: holder.process.pid,
        comm: holder.process.comm,
        cgroup: holder.cgroup,
    }
}

fn listening(found: Listeners, time: u64) -> Notice {
    let sockets = found.sockets.into_iter();
    let sockets = sockets.map(|(local, holder)| ListeningSocket {
        local,
        process: holder.map(told),
    });
    Notice::Listeners {
        netns: found.question.netns,
        protocol: found.question.protocol,
        port: found.question.port,
        time,
        sockets: sockets.collect(),
    }
}
