//! Listing and watching.
//!
//! For each kind of objects by itself: everything is listed, page by page, and then every change is taken as the
//! server tells it. When it has forgotten from where on (410 Gone), or anything else goes wrong, all is listed again,
//! the more rarely the longer it goes on failing. Meanwhile what is known stays, with a problem beside it.

use std::{
    cell::RefCell, convert::Infallible, error::Error as StdError, fmt::Debug, pin::pin,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    Access, convert,
    objects::{Kept, Kind, Objects},
};

/// Objects in a page.
const PAGE: u32 = 500;
/// How long the server may take for a page.
const PATIENCE: Duration = Duration::from_secs(20);
/// Changes are told of after this at the latest.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// When the server ends a watch that nothing ends, in seconds.
const WATCH: u32 = 270;
/// What the server says when it has forgotten from where on.
const GONE: u16 = 410;

/// How soon things are done again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between changes and telling of them, so that many are told at once; and between two watches.
    pub gap: Duration,
    /// After a first failure; then twice as long each time.
    pub first: Duration,
    /// After many.
    pub longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gap: Duration::from_millis(200),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        }
    }
}

/// Lists and watches until it is dropped; tells what is known when that has changed, and after a millisecond for
/// each object, since whoever is told goes through them all.
pub async fn watch(access: &Access, pace: Pace, mut tell: impl FnMut(&Objects)) -> Infallible {
    let mut pause = Pause::new(pace);
    let client = loop {
        match access.client().await {
            Ok(client) => break client,
            Err(error) => {
                let mut objects = Objects::default();
                for kind in Kind::ALL {
                    objects.went_wrong(kind, error.to_string());
                }
                tell(&objects);
                pause.wait().await;
            }
        }
    };
    watch_by(&client, pace, tell).await
}

pub(crate) async fn watch_by(
    client: &Client,
    pace: Pace,
    mut tell: impl FnMut(&Objects),
) -> Infallible {
    let shared = Shared {
        objects: RefCell::default(),
        changed: Notify::new(),
        pace,
    };
    let telling = async {
        loop {
            shared.changed.notified().await;
            let much =
                Duration::from_millis(u64::try_from(shared.objects.borrow().len()).unwrap_or(0));
            sleep(much.clamp(pace.gap, LONGEST_GAP)).await;
            tell(&shared.objects.borrow());
        }
    };
    tokio::select! {
        never = keep::<Service>(client, &shared) => never,
        never = keep::<EndpointSlice>(client, &shared) => never,
        never = keep::<Pod>(client, &shared) => never,
        never = telling => never,
    }
}

struct Shared {
    objects: RefCell<Objects>,
    changed: Notify,
    pace: Pace,
}

/// A kind of which objects are kept.
trait Watched:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned
{
    const KIND: Kind;
    type Plain;

    fn plain(&self) -> Option<Self::Plain>;

    fn kept(objects: &mut Objects) -> &mut Kept<Self::Plain>;
}

impl Watched for Service {
    const KIND: Kind = Kind::Services;
    type Plain = crate::objects::Service;

    fn plain(&self) -> Option<Self::Plain> {
        convert::service(self)
    }

    fn kept(objects: &mut Objects) -> &mut Kept<Self::Plain> {
        &mut objects.services
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlices;
    type Plain = crate::objects::Slice;

    fn plain(&self) -> Option<Self::Plain> {
        convert::slice(self)
    }

    fn kept(objects: &mut Objects) -> &mut Kept<Self::Plain> {
        &mut objects.slices
    }
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pods;
    type Plain = crate::objects::Pod;

    fn plain(&self) -> Option<Self::Plain> {
        convert::pod(self)
    }

    fn kept(objects: &mut Objects) -> &mut Kept<Self::Plain> {
        &mut objects.pods
    }
}

/// Keeps a kind of objects known.
async fn keep<K: Watched>(client: &Client, shared: &Shared) -> Infallible {
    let mut pause = Pause::new(shared.pace);
    loop {
        if let Err(problem) = follow::<K>(client, shared, &mut pause).await {
            shared.objects.borrow_mut().went_wrong(K::KIND, problem);
            shared.changed.notify_one();
        }
        pause.wait().await;
    }
}

/// Lists everything, and takes changes until everything is to be listed again.
async fn follow<K: Watched>(
    client: &Client,
    shared: &Shared,
    pause: &mut Pause,
) -> Result<(), String> {
    let api: Api<K> = Api::all(client.clone());
    let mut version = list(&api, shared).await?;
    pause.went_well();
    loop {
        let parameters = WatchParams::default().timeout(WATCH);
        let stream = match api.watch(&parameters, &version).await {
            Err(error) if is_gone(&error) => return Ok(()),
            stream => stream.map_err(|error| words(&error))?,
        };
        let mut stream = pin!(stream);
        while let Some(event) = stream.try_next().await.map_err(|error| words(&error))? {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) if status.code == GONE => return Ok(()),
                WatchEvent::Error(status) => return Err(words(&kube::Error::Api(status))),
            };
            if let Some(newer) = &object.meta().resource_version {
                version.clone_from(newer);
            }
            if let Some(name) = convert::name(object.meta()) {
                let plain = object.plain().filter(|_| !gone);
                K::kept(&mut shared.objects.borrow_mut()).put(name, plain);
                shared.changed.notify_one();
            }
        }
        // The server has ended it: from there on again, but not at once for ever.
        sleep(shared.pace.gap).await;
    }
}

/// Lists everything, instead of what was known; says up to which version.
async fn list<K: Watched>(api: &Api<K>, shared: &Shared) -> Result<String, String> {
    let mut parameters = ListParams::default().limit(PAGE);
    let mut all = K::kept(&mut Objects::default()).emptied();
    loop {
        let page = timeout(PATIENCE, api.list(&parameters)).await;
        let page = page.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
        let page = page.map_err(|error| words(&error))?;
        for object in &page.items {
            if let Some(name) = convert::name(object.meta()) {
                all.put(name, object.plain());
            }
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        // What is not kept need not be asked for.
        if parameters.continue_token.is_some() && !all.left_out() {
            continue;
        }
        let mut objects = shared.objects.borrow_mut();
        *K::kept(&mut objects) = all;
        objects.went_well(K::KIND);
        shared.changed.notify_one();
        return Ok(page.metadata.resource_version.unwrap_or_default());
    }
}

/// How long to wait before the next attempt.
struct Pause {
    pace: Pace,
    next: Duration,
}

impl Pause {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            next: pace.first,
        }
    }

    fn went_well(&mut self) {
        self.next = self.pace.first;
    }

    async fn wait(&mut self) {
        sleep(self.next).await;
        self.next = (self.next * 2).min(self.pace.longest);
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == GONE)
}

/// What went wrong, for people.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => {
            format!("{}: {}", status.code, status.message)
        }
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        other => last(other),
    }
}

/// The cause of an error, without the layers around it.
pub(crate) fn last(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
