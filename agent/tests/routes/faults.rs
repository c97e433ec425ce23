//! Injected delays and aborts (routing §5.8).

use std::time::{Duration, Instant};

use super::world::{World, rules};
use crate::support::{Endpoint, service};

fn rule(path: &str, fault: &str, more: &str) -> String {
    format!(
        "{{match: [{{uri: {{prefix: {path}}}}}], fault: {{{fault}}}, route: [{{destination: {{host: app}}}}]{more}}}"
    )
}

#[test]
fn faults_are_injected_at_their_share_and_not_retried() {
    let upstream = Endpoint::named("app");
    let written = [
        rule(
            "/abort",
            "abort: {httpStatus: 418, percentage: {value: 100}}",
            ", retries: {attempts: 3, retryOn: '418,5xx'}",
        ),
        rule("/never", "abort: {httpStatus: 418}, delay: {fixedDelay: 5s}", ""),
        rule(
            "/half",
            "abort: {httpStatus: 503, percentage: {value: 50}}",
            ", retries: {attempts: 5, retryOn: 5xx}",
        ),
        rule("/grpc", "abort: {grpcStatus: NOT_FOUND, percentage: {value: 100}}", ""),
    ];
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[service("app", &upstream), rules(&written)]);
    let answer = world.send("GET /abort HTTP/1.1\nhost: a\nx-case: abort\n\n");
    assert_eq!((answer.status(), answer.body.as_str()), (418, "fault filter abort"));
    assert!(world.logged("abort").starts_with("418 FI fault_filter_abort "), "{}", world.logged("abort"));
    assert_eq!(upstream.asked().len(), 0);
    // A share that is not written is none.
    assert_eq!(world.get("/never").body, "app");
    let failed = (0..400).filter(|_| world.get("/half").status() == 503).count();
    assert!((150..=250).contains(&failed), "{failed} of 400");
    let answer =
        world.send("POST /grpc HTTP/1.1\nhost: a\ncontent-type: application/grpc\ncontent-length: 0\n\n");
    assert_eq!((answer.status(), answer.body.as_str()), (200, ""));
    assert_eq!(
        (answer.field("grpc-status"), answer.field("grpc-message")),
        (Some("5"), Some("fault filter abort"))
    );
}

#[test]
fn a_delay_comes_before_the_abort_and_outside_of_the_limits_of_time() {
    let upstream = Endpoint::named("app");
    let delay = "delay: {fixedDelay: 400ms, percentage: {value: 100}}";
    let both = format!("{delay}, abort: {{httpStatus: 418, percentage: {{value: 100}}}}");
    let written = [
        rule("/delay", delay, ", timeout: 200ms"),
        rule("/both", &both, ""),
        // Envoy counts both in the log.
        rule("/percent", "delay: {fixedDelay: 400ms, percent: 100}", ""),
    ];
    let written: Vec<_> = written.iter().map(String::as_str).collect();
    let world = World::gateway(&[service("app", &upstream), rules(&written)]);
    for (path, status, logged) in [
        ("/delay", 200, "200 DI via_upstream "),
        ("/both", 418, "418 DI,FI fault_filter_abort "),
        ("/percent", 200, "200 DI via_upstream "),
    ] {
        let start = Instant::now();
        let answer = world.send(&format!("GET {path} HTTP/1.1\nhost: a\nx-case: {path}\n\n"));
        assert_eq!(answer.status(), status, "{path}");
        assert!(start.elapsed() >= Duration::from_millis(400), "{path}: {:?}", start.elapsed());
        assert!(world.logged(path).starts_with(logged), "{path}: {}", world.logged(path));
    }
}
