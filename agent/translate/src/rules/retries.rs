//! Retry policies: Istio's defaults and what rules say.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use resources::Retries;
use snapshot::{RetryCondition, RetryOn, RetryPolicy};

use crate::proxy::MeshOptions;

/// Envoy's first wait.
const BACKOFF: Duration = Duration::from_millis(25);

static DEFAULT: LazyLock<Arc<RetryPolicy>> = LazyLock::new(|| {
    Arc::new(policy(
        2,
        vec![
            RetryCondition::ConnectFailure,
            RetryCondition::RefusedStream,
            RetryCondition::GrpcUnavailable,
            RetryCondition::GrpcCancelled,
            RetryCondition::RetriableStatusCodes,
        ],
    ))
});

static INBOUND: LazyLock<Arc<RetryPolicy>> =
    LazyLock::new(|| Arc::new(policy(2, vec![RetryCondition::ResetBeforeRequest])));

fn policy(attempts: u32, conditions: Vec<RetryCondition>) -> RetryPolicy {
    RetryPolicy {
        attempts,
        on: RetryOn { conditions, statuses: Vec::new() },
        per_try_timeout: None,
        backoff: BACKOFF,
        avoid_previous_hosts: true,
        remote_localities: false,
        only_idempotent: false,
    }
}

/// What is done where a rule says nothing, on generated routes too: what the mesh says, else what Istio does.
pub(crate) fn default_retries(mesh: &MeshOptions) -> Option<Arc<RetryPolicy>> {
    let policy = match &mesh.default_retries {
        Some(written) => written_policy(written)?,
        None => DEFAULT.clone(),
    };
    Some(match mesh.default_retries_spare_others {
        true => Arc::new(RetryPolicy { only_idempotent: true, ..RetryPolicy::clone(&policy) }),
        false => policy,
    })
}

/// What Istio does on calls to the workload, except on gRPC ports.
pub(crate) fn inbound_retries() -> Arc<RetryPolicy> {
    INBOUND.clone()
}

/// The policy of a rule; `None` where it turns retries off.
pub(super) fn of_rule(
    written: Option<&Retries>,
    default: Option<&Arc<RetryPolicy>>,
) -> Option<Arc<RetryPolicy>> {
    written.map_or_else(|| default.cloned(), written_policy)
}

fn written_policy(written: &Retries) -> Option<Arc<RetryPolicy>> {
    let attempts = u32::try_from(written.attempts).ok().filter(|attempts| *attempts > 0)?;
    let on = match written.retry_on.as_deref().filter(|words| !words.is_empty()) {
        Some(words) => retry_on(words),
        None => DEFAULT.on.clone(),
    };
    Some(Arc::new(RetryPolicy {
        attempts,
        on,
        per_try_timeout: written.per_try_timeout.filter(|time| *time > Duration::ZERO),
        backoff: written.backoff.filter(|time| *time > Duration::ZERO).unwrap_or(BACKOFF),
        avoid_previous_hosts: written.retry_ignore_previous_hosts.unwrap_or(true),
        remote_localities: written.retry_remote_localities.unwrap_or_default(),
        only_idempotent: false,
    }))
}

/// Reads `gateway-error,503`. A number stands for a status and brings `retriable-status-codes` with it.
fn retry_on(words: &str) -> RetryOn {
    let mut on = RetryOn::default();
    for word in words.split(',').map(str::trim) {
        match word.parse::<u16>() {
            Ok(status) => on.statuses.push(status),
            Err(_) => on.conditions.extend(RetryCondition::of_name(word)),
        }
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    if !on.statuses.is_empty() && !on.conditions.contains(&RetryCondition::RetriableStatusCodes) {
        on.conditions.push(RetryCondition::RetriableStatusCodes);
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(attempts: i32, retry_on: Option<&str>) -> Retries {
        Retries { attempts, retry_on: retry_on.map(str::to_owned), ..Retries::default() }
    }

    #[test]
    fn nothing_written_means_istios_default() {
        let default = default_retries(&MeshOptions::default());
        let policy = of_rule(None, default.as_ref()).unwrap();
        assert_eq!((policy.attempts, policy.backoff.as_millis()), (2, 25));
        assert_eq!(of_rule(Some(&written(3, None)), None).unwrap().on, policy.on);
        assert_eq!(of_rule(Some(&written(0, None)), default.as_ref()), None);
    }

    #[test]
    fn the_mesh_may_have_a_policy_of_its_own() {
        let mesh =
            |retries: Retries| MeshOptions { default_retries: Some(retries), ..MeshOptions::default() };
        let default = default_retries(&mesh(written(5, Some("503"))));
        assert_eq!(of_rule(None, default.as_ref()).unwrap().attempts, 5);
        // A rule replaces it whole.
        let policy = of_rule(Some(&written(1, None)), default.as_ref()).unwrap();
        assert_eq!((policy.attempts, policy.on.statuses.len()), (1, 0));
        assert_eq!(default_retries(&mesh(written(0, None))), None);
        // The switch is for what no rule asks for.
        let spared = MeshOptions { default_retries_spare_others: true, ..mesh(written(5, Some("503"))) };
        let default = default_retries(&spared);
        let asked = of_rule(Some(&written(1, None)), default.as_ref()).unwrap();
        assert_eq!(
            (of_rule(None, default.as_ref()).unwrap().only_idempotent, asked.only_idempotent),
            (true, false)
        );
    }

    #[test]
    fn numbers_are_statuses() {
        let policy = of_rule(Some(&written(1, Some("503, reset,429,503"))), None).unwrap();
        assert_eq!(policy.on.statuses, [429, 503]);
        assert_eq!(policy.on.conditions, [RetryCondition::Reset, RetryCondition::RetriableStatusCodes]);
        // Without a number there are no codes to retry on: Istio's default must not retry every 503.
        assert_eq!(default_retries(&MeshOptions::default()).unwrap().on.statuses, [] as [u16; 0]);
    }

    #[test]
    fn every_word_that_is_read_has_a_meaning() {
        for word in resources::RETRY_ON {
            assert!(RetryCondition::of_name(word).is_some(), "{word}");
        }
    }
}
