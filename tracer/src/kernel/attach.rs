//! Carrying out the attach plan: programs loaded side by side, then attached in order.
//!
//! The verifier takes most of the time, and it can work on several programs at once. Attaching
//! waits until all are loaded, and the device hooks, where packets are first seen, come last: a
//! packet seen at its first hop is then seen at all of them. How each step went is noted in the
//! plan. A family of which a step fails is left out whole.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::OwnedFd,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, FEntry, FExit,
        KProbe, Program, ProgramError,
    },
};

use super::{
    bpf,
    netfilter::{self, Prepared, Programs},
    object::Object,
    plan::{Kind, Outcome, Plan, Step, Target},
};
use crate::signals::Blocked;

/// Threads that load; the kernel's time is what they take.
const LOADERS: usize = 4;
/// In which order families are attached.
const ORDER: [Kind; 7] = [
    Kind::Processes,
    Kind::Bytes,
    Kind::Socket,
    Kind::Consume,
    Kind::Drops,
    Kind::Netfilter,
    Kind::Devices,
];

/// What holds the programs in the kernel; dropping it detaches and unloads all but the netfilter
/// programs, which have left for their links.
#[derive(Debug)]
pub struct Attached {
    /// The programs that aya knows, with their links.
    pub ebpf: Ebpf,
    /// The netfilter programs, loaded and not linked anywhere yet.
    pub netfilter: Option<Programs>,
}

/// Loads and attaches what the plan says, and notes in it how that went.
///
/// Whether it is enough to go on is for the caller to say, by [`Plan::readiness`].
#[must_use]
pub fn carry_out(plan: &mut Plan, object: &Object, mut ebpf: Ebpf, btf: &Btf) -> Attached {
    let (mut loaded, mut netfilter) = (Loads::new(), None);
    loop {
        loop {
            let more = load_all(plan, object, &mut ebpf, btf, &loaded);
            loaded.extend(more);
            if !plan.fall_back() {
                break;
            }
        }
        netfilter = take_netfilter(plan, &mut loaded).or(netfilter);
        for kind in ORDER {
            attach_family(plan, kind, &mut ebpf, &mut loaded);
        }
        // A kernel may take a program and refuse to attach it.
        if !plan.fall_back() {
            return Attached { ebpf, netfilter };
        }
    }
}

/// Attaches what is loaded of a family; all of it or nothing.
fn attach_family(plan: &mut Plan, kind: Kind, ebpf: &mut Ebpf, loaded: &mut Loads) {
    let Some(family) = plan.family(kind).filter(|family| family.choice.is_some()) else {
        return;
    };
    let steps = family.steps.clone();
    for step in &steps {
        let Some(Ok(done)) = loaded.remove(&step.program) else {
            continue;
        };
        let outcome = attach(ebpf, step, done.time);
        let failed = matches!(outcome, Outcome::Failed { .. });
        plan.note(&step.program, outcome);
        if failed {
            let of_family = steps.iter().map(|step| step.program.as_str());
            of_family.for_each(|program| unload(ebpf, program));
            return;
        }
    }
}

/// Takes a program out of the kernel, with its links.
fn unload(ebpf: &mut Ebpf, program: &str) {
    // The only error is that it was not loaded.
    let _ = match ebpf.program_mut(program) {
        Some(Program::BtfTracePoint(program)) => program.unload(),
        Some(Program::FEntry(program)) => program.unload(),
        Some(Program::FExit(program)) => program.unload(),
        Some(Program::KProbe(program)) => program.unload(),
        Some(Program::CgroupSkb(program)) => program.unload(),
        // There are no others in the object that aya attaches.
        _ => Ok(()),
    };
}

/// A program that the verifier took.
struct Loaded {
    time: Duration,
    /// Of those that aya does not know.
    fd: Option<OwnedFd>,
}

type Loads = BTreeMap<String, Result<Loaded, String>>;

/// Loads every program of the plan that was not tried yet, notes failures, and returns how it went for each.
fn load_all(
    plan: &mut Plan,
    object: &Object,
    ebpf: &mut Ebpf,
    btf: &Btf,
    loaded_before: &Loads,
) -> Loads {
    let prepared = Prepared::new(ebpf, object.bytes());
    let mut programs: BTreeMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let jobs: Vec<Job<'_>> = plan
        .steps()
        .filter(|step| {
            step.outcome == Outcome::Planned && !loaded_before.contains_key(&step.program)
        })
        .map(|step| Job {
            name: step.program.clone(),
            target: &step.target,
            program: programs.remove(step.program.as_str()),
        })
        .collect();
    let jobs = Mutex::new(jobs);
    let done = Mutex::new(Loads::new());
    // A function of its own: in the loop's head the lock would be held for the whole body.
    let next = || lock(&jobs).pop();
    let work = || {
        while let Some(mut job) = next() {
            let start = Instant::now();
            let result = job.load(&prepared, btf);
            let time = start.elapsed();
            let result = result.map(|fd| Loaded { time, fd });
            lock(&done).insert(job.name, result);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |n| n.get().min(LOADERS));
    // None of it in this thread, which takes the process's signals meanwhile: with hundreds of namespaces whose
    // rules are being read, children end faster than the verifier is done with a program. If signals cannot be
    // blocked, loads are interrupted, and done again.
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _blocked = Blocked::all();
                work();
            });
        }
    });
    let loads = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (program, result) in &loads {
        if let Err(reason) = result {
            let reason = reason.clone();
            plan.note(program, Outcome::Failed { reason });
        }
    }
    loads
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Job<'a> {
    name: String,
    target: &'a Target,
    program: Option<&'a mut Program>,
}

impl Job<'_> {
    fn load(
        &mut self,
        prepared: &Result<Prepared, netfilter::NetfilterError>,
        btf: &Btf,
    ) -> Result<Option<OwnedFd>, String> {
        match self.target {
            Target::NetfilterHooks => {
                let prepared = prepared.as_ref().map_err(ToString::to_string)?;
                let fd = prepared.load(&self.name).map_err(|e| e.to_string())?;
                Ok(Some(fd))
            }
            Target::Tracepoint(tracepoint) => {
                let program: &mut BtfTracePoint = self.typed()?;
                verified(|| program.load(tracepoint, btf))?;
                Ok(None)
            }
            Target::FunctionBegin(function) => {
                let program: &mut FEntry = self.typed()?;
                verified(|| program.load(function, btf))?;
                Ok(None)
            }
            Target::FunctionEnd(function) => {
                let program: &mut FExit = self.typed()?;
                verified(|| program.load(function, btf))?;
                Ok(None)
            }
            Target::Kprobe(_) | Target::Kretprobe(_) => {
                let program: &mut KProbe = self.typed()?;
                verified(|| program.load())?;
                Ok(None)
            }
            Target::CgroupIngress(_) | Target::CgroupEgress(_) => {
                let program: &mut CgroupSkb = self.typed()?;
                verified(|| program.load())?;
                Ok(None)
            }
            Target::CgroupSocketCreate(_) => {
                let program: &mut CgroupSock = self.typed()?;
                verified(|| program.load())?;
                Ok(None)
            }
        }
    }

    fn typed<'b, T>(&'b mut self) -> Result<&'b mut T, String>
    where
        &'b mut T: TryFrom<&'b mut Program, Error = ProgramError>,
    {
        typed(self.program.as_deref_mut())
    }
}

fn typed<'a, T>(program: Option<&'a mut Program>) -> Result<&'a mut T, String>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program =
        program.ok_or("the BPF object has no such program; rebuild it with `cargo xtask ebpf`")?;
    program.try_into().map_err(|e: ProgramError| explain(&e))
}

/// Loads a program of aya's.
fn verified(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), String> {
    bpf::persist(&mut load, |error| match error {
        ProgramError::LoadError { io_error, .. } => bpf::interrupted(io_error),
        _ => false,
    })
    .map_err(|e| explain(&e))
}

/// An error of aya's with what the verifier said last.
fn explain(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = netfilter::last_lines(&verifier_log.to_string());
            format!("the verifier says no: {io_error}{log}")
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

/// The two netfilter programs, if both were loaded.
fn take_netfilter(plan: &mut Plan, loaded: &mut Loads) -> Option<Programs> {
    let mut take = |program| loaded.remove(program)?.ok();
    let (enter, leave) = (take(netfilter::ENTER)?, take(netfilter::LEAVE)?);
    for (program, load) in [(netfilter::ENTER, &enter), (netfilter::LEAVE, &leave)] {
        plan.note(program, attached(load.time, Duration::ZERO));
    }
    Some(Programs::new(enter.fd?, leave.fd?))
}

fn attach(ebpf: &mut Ebpf, step: &Step, load: Duration) -> Outcome {
    let start = Instant::now();
    let program = ebpf.program_mut(&step.program);
    let result = match &step.target {
        // Linked per namespace, elsewhere.
        Target::NetfilterHooks => Ok(()),
        Target::Tracepoint(_) => typed(program).and_then(|program: &mut BtfTracePoint| {
            program.attach().map(drop).map_err(|e| explain(&e))
        }),
        Target::FunctionBegin(_) => typed(program)
            .and_then(|program: &mut FEntry| program.attach().map(drop).map_err(|e| explain(&e))),
        Target::FunctionEnd(_) => typed(program)
            .and_then(|program: &mut FExit| program.attach().map(drop).map_err(|e| explain(&e))),
        // By a perf event, which goes with its descriptor; tracefs is not needed.
        Target::Kprobe(function) | Target::Kretprobe(function) => {
            typed(program).and_then(|program: &mut KProbe| {
                let link = program.attach(function, 0);
                link.map(drop).map_err(|e| explain(&e))
            })
        }
        Target::CgroupIngress(path) => at_cgroup(program, path, CgroupSkbAttachType::Ingress),
        Target::CgroupEgress(path) => at_cgroup(program, path, CgroupSkbAttachType::Egress),
        Target::CgroupSocketCreate(path) => typed(program).and_then(|program: &mut CgroupSock| {
            let cgroup = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let link = program.attach(cgroup, CgroupAttachMode::Single);
            link.map(drop).map_err(|e| explain(&e))
        }),
    };
    match result {
        Ok(()) => attached(load, start.elapsed()),
        Err(reason) => Outcome::Failed { reason },
    }
}

fn at_cgroup(
    program: Option<&mut Program>,
    path: &Path,
    kind: CgroupSkbAttachType,
) -> Result<(), String> {
    let program: &mut CgroupSkb = typed(program)?;
    let cgroup = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    // Single is a link without flags: others can be there too.
    let link = program.attach(cgroup, kind, CgroupAttachMode::Single);
    link.map(drop).map_err(|e| explain(&e))
}

fn attached(load: Duration, attach: Duration) -> Outcome {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Outcome::Attached {
        load_us: micros(load),
        attach_us: micros(attach),
    }
}
