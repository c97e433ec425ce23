//! What the identities of the mesh begin with.

use crate::{Path, decode::Context, finding::Problem};

/// Refuses what no identity can begin with: `spiffe://<trust domain>/` (SPIFFE-ID §2.1).
pub(super) fn check(name: &str, at: &Path<'_>, context: &mut Context<'_>) {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_part) {
        let problem = Problem::new("is not a trust domain").found(name);
        context.error(at, problem.expected("a name such as `cluster.local`, without `spiffe://` or a path"));
    }
}
