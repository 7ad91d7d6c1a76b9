//! The thread that answers, and how much it may do.
//!
//! Questions are collected, and those of one round answered together ([`answering`](super::answering)). After each
//! round it rests for many times the processor time that it took, so that a node with very many sockets costs no
//! more than another; at the end it hurries. What is shared by several processes is looked at once more.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    Answer, Listeners, PortQuestion, Question,
    answering::{Census, Found, answer_all, listeners_of},
};
use crate::privilege::{self, Role};

/// Questions that wait; what is asked beyond is not answered.
const WAITING: usize = 1024;
/// How many times as long as a round worked the thread rests afterwards, and for how long at most.
const REST: u32 = 20;
const LONGEST_REST: Duration = Duration::from_secs(2);
/// After how long a connection that several processes hold is looked for again: a server that forks after `accept`
/// has closed its own by then.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
enum Message {
    Ask(Question),
    AskPort(PortQuestion),
    /// Rest no more.
    Hurry,
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    questions: Option<SyncSender<Message>>,
    answers: Receiver<Answer>,
    listeners: Receiver<Listeners>,
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start() -> io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel(WAITING);
        let (answer, answers) = mpsc::channel();
        let (listening, listeners) = mpsc::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&open);
        let work = move || {
            let mut census = Census::default();
            let answered = |round: &Round| {
                let Found { answers, shared } =
                    answer_all(&mut census, &round.questions, &round.again);
                // At the end nobody takes the answers.
                for found in answers {
                    let _ = answer.send(found);
                }
                for found in listeners_of(&mut census, &round.ports) {
                    let _ = listening.send(found);
                }
                // What is asked again is not answered yet.
                counter.fetch_sub(round.len() - shared.len(), Ordering::Release);
                shared
            };
            rounds(&asked, answered);
        };
        Ok(Self {
            questions: Some(questions),
            answers,
            listeners,
            open,
            thread: Some(privilege::spawn("sockets", Role::Sockets, work)?),
        })
    }

    /// Asks; the answer, if there is any, comes some time. Never waits.
    pub fn ask(&self, question: Question) {
        self.send(Message::Ask(question));
    }

    /// Asks who listens at a port, likewise.
    pub fn ask_port(&self, question: PortQuestion) {
        self.send(Message::AskPort(question));
    }

    fn send(&self, message: Message) {
        let Some(questions) = &self.questions else {
            return;
        };
        self.open.fetch_add(1, Ordering::Release);
        if questions.try_send(message).is_err() {
            self.open.fetch_sub(1, Ordering::Release);
        }
    }

    /// Has what was asked answered without rest: the end is near.
    pub fn hurry(&self) {
        if let Some(questions) = &self.questions {
            // Full of questions, it rests once more.
            let _ = questions.try_send(Message::Hurry);
        }
    }

    /// What was found since the last call.
    pub fn answers(&self) -> impl Iterator<Item = Answer> + '_ {
        self.answers.try_iter()
    }

    /// Who was found to listen since the last call.
    pub fn listeners(&self) -> impl Iterator<Item = Listeners> + '_ {
        self.listeners.try_iter()
    }

    /// Whether answers may yet come.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: there is nothing to stop, and the panic was printed.
            let _ = thread.join();
        }
    }
}

/// What is answered together.
#[derive(Debug, Default)]
struct Round {
    questions: Vec<Question>,
    /// Those that are asked for the second time.
    again: Vec<Question>,
    ports: Vec<PortQuestion>,
    /// To rest no more.
    hurry: bool,
}

impl Round {
    fn take(&mut self, message: Message) {
        match message {
            Message::Ask(question) => self.questions.push(question),
            Message::AskPort(question) => self.ports.push(question),
            Message::Hurry => self.hurry = true,
        }
    }

    fn len(&self) -> usize {
        self.questions.len() + self.again.len() + self.ports.len()
    }

    fn clear(&mut self) {
        self.questions.clear();
        self.again.clear();
        self.ports.clear();
    }
}

/// Has rounds of what is asked answered, and what that returns asked once more, [`AGAIN`] later. Ends when nobody
/// can ask any more.
fn rounds(asked: &Receiver<Message>, mut answer: impl FnMut(&Round) -> Vec<Question>) {
    let mut round = Round::default();
    // In order of time.
    let mut later: VecDeque<(Instant, Question)> = VecDeque::new();
    loop {
        if round.len() == 0 {
            let message = match later.front() {
                Some((due, _)) => asked.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => asked.recv().map_err(RecvTimeoutError::from),
            };
            match message {
                Ok(message) => round.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        asked.try_iter().for_each(|message| round.take(message));
        let now = Instant::now();
        while let Some((_, question)) = later.pop_front_if(|(due, _)| *due <= now) {
            round.again.push(question);
        }
        if round.len() == 0 {
            continue;
        }
        let start = processor_time();
        let shared = answer(&round);
        let due = Instant::now() + AGAIN;
        later.extend(shared.into_iter().map(|question| (due, question)));
        round.clear();
        let worked = processor_time().saturating_sub(start);
        let until = Instant::now() + (worked * REST).min(LONGEST_REST);
        // Resting, it still notices its end.
        while !round.hurry {
            match asked.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => round.take(message),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// What the thread has worked.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    };

    use super::*;
    use crate::node::{netns, testing::wait_until};

    fn question(protocol: u8, local: SocketAddr, remote: SocketAddr) -> Question {
        Question {
            netns: netns::current().unwrap(),
            protocol,
            local,
            remote,
        }
    }

    #[test]
    fn sockets_of_all_kinds_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let client = TcpStream::connect(here).unwrap();
        let there = client.local_addr().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let kept = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asked = [
            // A client, a connection that nobody has accepted (its listener has it), a UDP socket.
            question(6, there, here),
            question(6, here, there),
            question(
                17,
                kept.local_addr().unwrap(),
                "127.0.0.1:9".parse().unwrap(),
            ),
        ];
        let worker = Worker::start().unwrap();
        for question in asked {
            worker.ask(question);
        }
        // What is gone is not found, and that is no answer.
        worker.ask(question(17, udp, here));
        let mut found = Vec::new();
        wait_until("it is done", || {
            found.extend(worker.answers());
            !worker.is_busy()
        });
        found.extend(worker.answers());
        let pids: Vec<u32> = found
            .iter()
            .map(|answer| answer.process.process.pid)
            .collect();
        assert_eq!(pids, [std::process::id(); 3], "{found:?}");
        let questions: BTreeSet<Question> = found.iter().map(|answer| answer.question).collect();
        assert_eq!(questions, BTreeSet::from(asked));
    }

    #[test]
    fn who_listens_at_a_port_is_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let netns = netns::current().unwrap();
        let asked = [(6, tcp.local_addr()), (17, udp.local_addr())].map(|(protocol, local)| {
            let local = local.unwrap();
            let port = local.port();
            let question = PortQuestion {
                netns,
                protocol,
                port,
            };
            (question, local)
        });
        let worker = Worker::start().unwrap();
        asked
            .iter()
            .for_each(|(question, _)| worker.ask_port(*question));
        wait_until("it is done", || !worker.is_busy());
        let found: Vec<Listeners> = worker.listeners().collect();
        assert_eq!(found.len(), 2);
        for (question, local) in asked {
            let found = found.iter().find(|found| found.question == question);
            let sockets = &found.expect("an answer").sockets;
            let own = sockets.iter().find(|(address, _)| *address == local);
            let (_, holder) = own.expect("the socket");
            let pid = holder.as_ref().map(|holder| holder.process.pid);
            assert_eq!(pid, Some(std::process::id()));
        }
    }

    #[test]
    fn what_is_shared_is_asked_once_more_and_only_then_counted() {
        let (ask, asked) = mpsc::sync_channel(2);
        let here = "127.0.0.1:1".parse().unwrap();
        ask.send(Message::Ask(question(6, here, here))).unwrap();
        let mut seen = Vec::new();
        let mut ask = Some(ask);
        let first = Instant::now();
        rounds(&asked, |round| {
            seen.push((round.questions.clone(), round.again.clone()));
            if !round.again.is_empty() {
                ask = None;
            }
            round.questions.clone()
        });
        let once = vec![question(6, here, here)];
        assert_eq!(seen, [(once.clone(), vec![]), (vec![], once)]);
        assert!(first.elapsed() >= AGAIN);
    }

    #[test]
    fn nothing_waits_for_it() {
        let worker = Worker::start().unwrap();
        let nowhere = "127.0.0.1:1".parse().unwrap();
        for _ in 0..10 * WAITING {
            worker.ask(question(6, nowhere, nowhere));
        }
        wait_until("all are answered or let go", || !worker.is_busy());
        assert_eq!(worker.answers().count(), 0);
    }
}
