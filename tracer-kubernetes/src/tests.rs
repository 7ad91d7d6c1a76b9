//! The real client against a server that behaves as the API server may: plain HTTP on the loopback.

mod server;

use std::time::Duration;

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::server::{Reply, Request, Server};
use crate::{
    Access, Objects, Pace,
    access::client_of,
    objects::{Kind, Name},
    watch,
};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const PACE: Pace = Pace {
    gap: Duration::from_millis(5),
    first: Duration::from_millis(20),
    longest: Duration::from_millis(50),
};

fn client(address: std::net::SocketAddr) -> Client {
    client_of(Config::new(format!("http://{address}").parse().unwrap())).unwrap()
}

/// Watches until what is known is as it should be; what it was last.
fn until(client: impl FnOnce() -> Client, enough: impl Fn(&Objects) -> bool) -> Objects {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (sender, mut told) = mpsc::unbounded_channel();
    runtime.block_on(async {
        let client = client();
        let watching = watch::watch_by(&client, PACE, move |objects| {
            let _ = sender.send(objects.clone());
        });
        let mut last = Objects::default();
        let waiting = async {
            while let Some(objects) = told.recv().await {
                last = objects;
                if enough(&last) {
                    return;
                }
            }
        };
        let limit = tokio::time::sleep(LIMIT);
        tokio::select! {
            never = watching => match never {},
            () = waiting => {}
            () = limit => {}
        }
        assert!(enough(&last), "{last:#?}");
        last
    })
}

fn key(name: &str) -> Name {
    ("default".to_owned(), name.to_owned())
}

fn service(name: &str, address: &str, version: &str) -> Value {
    json!({
        "metadata": {"namespace": "default", "name": name, "resourceVersion": version},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"name": "http", "port": 80}]},
    })
}

fn slice(name: &str, service: &str, address: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "default", "name": name, "resourceVersion": "5",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": "default", "name": name, "resourceVersion": "5"},
        "spec": {"nodeName": "node2", "containers": []},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

fn page(kind: &str, items: &[Value], then: &str) -> Reply {
    Reply::json(
        200,
        &json!({
            "apiVersion": "v1", "kind": kind, "items": items,
            "metadata": {"resourceVersion": "5", "continue": then},
        }),
    )
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn status(code: u16, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message,
        "reason": "Because", "metadata": {},
    })
}

/// One object of each kind, and then nothing happens.
fn quiet(request: &Request) -> Reply {
    match (request.kind, request.watches) {
        (_, true) => Reply::stream(&[]).held(),
        (Kind::Services, _) => page("ServiceList", &[service("web", "10.96.0.80", "3")], ""),
        (Kind::EndpointSlices, _) => page(
            "EndpointSliceList",
            &[slice("web-1", "web", "10.244.2.3")],
            "",
        ),
        (Kind::Pods, _) => page("PodList", &[pod("b2", "10.244.2.3")], ""),
    }
}

fn well(objects: &Objects) -> bool {
    Kind::ALL
        .into_iter()
        .all(|kind| objects.is_listed(kind) && objects.problem(kind).is_none())
}

#[test]
fn everything_is_listed() {
    let server = Server::start(quiet);
    let objects = until(|| client(server.address()), well);
    assert_eq!(objects.services.get(&key("web")).unwrap().ports[0].port, 80);
    assert_eq!(objects.slices.get(&key("web-1")).unwrap().service, "web");
    assert_eq!(
        objects.pods.get(&key("b2")).unwrap().node.as_deref(),
        Some("node2")
    );
    assert!(objects.is_settled());
}

#[test]
fn lists_are_read_page_by_page() {
    let server = Server::start(|request| match (request.kind, request.watches) {
        (Kind::Pods, false) => match request.parameter("continue") {
            None => page("PodList", &[pod("a", "10.244.2.1")], "more"),
            Some("more") => page("PodList", &[pod("b", "10.244.2.2")], ""),
            Some(_) => Reply::json(400, &status(400, "what?")),
        },
        _ => quiet(request),
    });
    let objects = until(|| client(server.address()), well);
    let names: Vec<_> = objects
        .pods
        .iter()
        .map(|((_, name), _)| name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn changes_are_followed() {
    let server = Server::start(|request| match (request.kind, request.watches) {
        (Kind::Services, true) if request.parameter("resourceVersion") == Some("5") => {
            Reply::stream(&[
                event("ADDED", &service("new", "10.96.0.81", "6")),
                event("MODIFIED", &service("web", "10.96.0.99", "7")),
                event(
                    "BOOKMARK",
                    &json!({"kind": "Service", "apiVersion": "v1", "metadata": {"resourceVersion": "8"}}),
                ),
            ])
        }
        // The next watch goes on from there.
        (Kind::Services, true) if request.parameter("resourceVersion") == Some("8") => {
            Reply::stream(&[event("DELETED", &service("new", "10.96.0.81", "9"))]).held()
        }
        (Kind::Services, true) => Reply::json(400, &status(400, "from where?")),
        (Kind::Pods, true) => {
            let mut ended = pod("b2", "10.244.2.3");
            ended["status"]["phase"] = "Succeeded".into();
            Reply::stream(&[event("MODIFIED", &ended)]).held()
        }
        _ => quiet(request),
    });
    let objects = until(
        || client(server.address()),
        |objects| {
            let web = objects.services.get(&key("web"));
            let moved = web.is_some_and(|web| web.cluster_ips[0].to_string() == "10.96.0.99");
            moved
                && objects.services.get(&key("new")).is_none()
                && objects.pods.is_empty()
                && well(objects)
        },
    );
    assert_eq!(objects.services.len(), 1);
}

#[test]
fn what_is_forbidden_is_said_and_the_rest_is_known() {
    let server = Server::start(|request| match request.kind {
        Kind::Pods => Reply::json(403, &status(403, "pods is forbidden")),
        _ => quiet(request),
    });
    let objects = until(|| client(server.address()), Objects::is_settled);
    assert_eq!(objects.problem(Kind::Pods), Some("403: pods is forbidden"));
    assert!(!objects.is_listed(Kind::Pods));
    assert_eq!((objects.services.len(), objects.slices.len()), (1, 1));
}

#[test]
fn who_is_let_in_later_gets_names_then() {
    let server = Server::start(|request| match request.number {
        0..6 => Reply::json(401, &status(401, "Unauthorized")),
        _ => quiet(request),
    });
    let first = until(
        || client(server.address()),
        |it| it.problem(Kind::Services).is_some(),
    );
    assert_eq!(first.problem(Kind::Services), Some("401: Unauthorized"));
    let objects = until(|| client(server.address()), well);
    assert_eq!(objects.services.len(), 1);
}

/// Both ways in which a server may say that it does not remember from where on.
#[test]
fn what_is_gone_is_listed_again() {
    for in_the_stream in [false, true] {
        let server = Server::start(move |request| match (request.kind, request.watches) {
            (Kind::Services, false) if request.of_its_kind > 0 => {
                page("ServiceList", &[service("later", "10.96.0.82", "9")], "")
            }
            (Kind::Services, true) if request.of_its_kind == 1 => {
                let gone = status(410, "too old resource version");
                match in_the_stream {
                    true => Reply::stream(&[event("ERROR", &gone)]),
                    false => Reply::json(410, &gone),
                }
            }
            _ => quiet(request),
        });
        let objects = until(
            || client(server.address()),
            |objects| objects.services.get(&key("later")).is_some() && well(objects),
        );
        assert_eq!(objects.services.len(), 1, "what is gone is gone");
    }
}

#[test]
fn half_a_line_and_what_is_no_json_are_got_over() {
    for broken in [
        "{\"type\":\"ADDED\",\"object\":{\"meta",
        "nonsense\n",
        "\n\n{}\n",
    ] {
        let server = Server::start(move |request| match (request.kind, request.watches) {
            (Kind::Services, true) if request.of_its_kind == 1 => {
                Reply::stream(&[broken.to_owned()])
            }
            (Kind::Services, true) => {
                Reply::stream(&[event("ADDED", &service("new", "10.96.0.81", "6"))]).held()
            }
            _ => quiet(request),
        });
        let objects = until(
            || client(server.address()),
            |objects| objects.services.get(&key("new")).is_some() && well(objects),
        );
        assert_eq!(objects.services.len(), 2, "{broken}");
    }
}

#[test]
fn a_list_that_is_none_is_a_problem_and_no_end() {
    let server = Server::start(|request| match request.number {
        0..9 => Reply::json(200, &json!({"items": "many"})),
        9..12 => Reply::json(500, &json!("oh")),
        12..15 => Reply::cut(),
        _ => quiet(request),
    });
    let objects = until(|| client(server.address()), well);
    assert_eq!(objects.pods.len(), 1);
}

#[test]
fn where_nobody_listens_names_come_when_somebody_does() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let objects = until(|| client(address), Objects::is_settled);
    for kind in Kind::ALL {
        let problem = objects.problem(kind).unwrap();
        assert!(problem.contains("refused"), "{problem}");
    }
    let server = Server::at(std::net::TcpListener::bind(address).unwrap(), quiet);
    assert!(well(&until(|| client(server.address()), well)));
}

#[test]
fn where_nothing_says_where_it_is_that_is_a_problem() {
    let access = Access::Kubeconfig("/nonexistent/config".into());
    assert!(
        access
            .check()
            .unwrap_err()
            .to_string()
            .contains("/nonexistent/config")
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (sender, mut told) = mpsc::unbounded_channel();
    let objects: Objects = runtime.block_on(async {
        let watching = watch(&access, PACE, move |objects| {
            drop(sender.send(objects.clone()));
        });
        tokio::select! {
            never = watching => match never {},
            objects = told.recv() => objects.unwrap(),
        }
    });
    assert!(objects.is_settled());
    assert!(
        objects
            .problem(Kind::Pods)
            .unwrap()
            .contains("/nonexistent/config")
    );
}
