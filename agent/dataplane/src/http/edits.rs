//! What a route changes in heads: one list of changes for each head, applied by every codec.

use std::time::Duration;

use snapshot::{Edits, Format, HeaderEdits, PathRewrite, ProxyHeaders, RequestHead, Rewrite};

use super::{
    head::{EXPECTED_TIMEOUT, FieldSink},
    substitute::{AnswerFacts, RequestFacts, Value},
};

/// Lines that go and lines that come, worked out for one head.
#[derive(Default)]
pub(super) struct Fields<'v> {
    removed: Vec<&'v str>,
    added: Vec<(&'v str, Vec<u8>)>,
}

impl<'v> Fields<'v> {
    /// Whether lines of this name do not go further.
    pub(super) fn drops(&self, name: &str) -> bool {
        self.removed.iter().any(|removed| removed.eq_ignore_ascii_case(name))
    }

    /// Values of the lines that come under a name.
    pub(super) fn lines(&self, name: &str) -> Vec<Vec<u8>> {
        let same = self.added.iter().filter(|(added, _)| added.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.clone()).collect()
    }

    /// The first of them.
    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.added
            .iter()
            .find(|(added, _)| added.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Writes the lines that come.
    pub(super) fn write(&self, sink: &mut impl FieldSink) {
        self.added.iter().for_each(|(name, value)| sink.field(name, value));
    }

    fn remove(&mut self, name: &'v str) {
        self.added.retain(|(added, _)| *added != name);
        self.removed.push(name);
    }

    /// A value that turns out empty changes nothing.
    fn take(&mut self, change: Change, name: &'v str, value: Vec<u8>) {
        if value.is_empty() {
            return;
        }
        if change == Change::Set {
            self.remove(name);
        }
        self.added.push((name, value));
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Set,
    Add,
}

/// What a list removes.
fn removals(edits: &Edits) -> impl Iterator<Item = &str> {
    edits.remove.iter().map(String::as_str).filter(|name| may_change(name))
}

/// What a list sets and adds, in the order in which it applies.
fn values(edits: &Edits) -> impl Iterator<Item = (Change, &str, &Format)> {
    let set = edits.set.iter().map(|(name, format)| (Change::Set, name.as_str(), format));
    let add = edits.add.iter().map(|(name, format)| (Change::Add, name.as_str(), format));
    set.chain(add).filter(|(_, name, _)| may_change(name))
}

/// The codecs alone decide how a message is framed and whom it is for.
fn may_change(name: &str) -> bool {
    !matches!(name, "host" | "content-length") && !name.starts_with(':') && !http1::is_hop_by_hop(name)
}

/// What a route changes in a request.
#[derive(Default)]
pub(super) struct RequestChanges<'v> {
    path: Option<String>,
    authority: Option<&'v str>,
    pub(super) fields: Fields<'v>,
}

const ORIGINAL_PATH: &str = "x-envoy-original-path";
const ORIGINAL_HOST: &str = "x-envoy-original-host";
const FORWARDED_HOST: &str = "x-forwarded-host";

impl<'v> RequestChanges<'v> {
    /// The changes of `lists`, in their order, and then the rewrite; what it replaces is told as `headers` say. A
    /// destination's own authority counts before that of the rewrite.
    pub(super) fn of(
        lists: [Option<&'v HeaderEdits>; 2],
        (rewrite, authority): (Option<&'v Rewrite>, Option<&'v str>),
        (request, headers): (&RequestFacts<'_>, &ProxyHeaders),
    ) -> Self {
        let mut changes = Self::default();
        for edits in lists.into_iter().flatten().map(|edits| &edits.request) {
            removals(edits).for_each(|name| changes.fields.remove(name));
            let filled: Vec<_> = values(edits)
                .map(|(change, name, format)| {
                    (change, name, Value::of(format, request, &changes).finish(None))
                })
                .collect();
            filled.into_iter().for_each(|(change, name, value)| changes.fields.take(change, name, value));
        }
        if let Some(rewrite) = rewrite {
            changes.rewrite_path(rewrite.path.as_ref(), request.head.path_and_query(), headers.debug);
        }
        if let Some(authority) = authority.or(rewrite.and_then(|rewrite| rewrite.authority.as_deref())) {
            changes.authority = Some(authority);
            if headers.debug {
                let received = request.head.authority().as_bytes();
                changes.fields.take(Change::Set, ORIGINAL_HOST, received.to_vec());
            }
            if headers.forwarded_host {
                changes.tell_host(request.head);
            }
        }
        changes
    }

    fn rewrite_path(&mut self, rewrite: Option<&PathRewrite>, received: &str, is_told: bool) {
        // `OPTIONS *` has no path.
        if let Some(rewrite) = rewrite.filter(|_| received.starts_with('/')) {
            self.path = Some(rewrite.apply(received));
            if is_told {
                self.fields.take(Change::Set, ORIGINAL_PATH, received.as_bytes().to_vec());
            }
        }
    }

    /// Appends the host as it was to those that other proxies have told.
    fn tell_host(&mut self, request: &dyn RequestHead) {
        let mut hosts = self.fields.lines(FORWARDED_HOST);
        if !self.fields.drops(FORWARDED_HOST) {
            request.visit_headers(&mut |name, value| {
                if name.eq_ignore_ascii_case(FORWARDED_HOST) {
                    hosts.push(value.to_vec());
                }
            });
        }
        hosts.push(request.authority().as_bytes().to_vec());
        self.fields.take(Change::Set, FORWARDED_HOST, hosts.join(&b","[..]));
    }

    /// Tells the endpoint how long it has.
    pub(super) fn expect_within(&mut self, limit: Duration) {
        let milliseconds = limit.as_millis().to_string().into_bytes();
        self.fields.take(Change::Set, EXPECTED_TIMEOUT, milliseconds);
    }

    /// Makes it a call of gRPC.
    pub(super) fn speak_grpc(&mut self) {
        self.fields.take(Change::Set, "content-type", b"application/grpc".to_vec());
        self.fields.take(Change::Set, "te", b"trailers".to_vec());
    }

    /// The new path and query.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The new host.
    pub(super) fn authority(&self) -> Option<&str> {
        self.authority
    }
}

/// What a route changes in the answer to one request, ready but for what the answer tells.
#[derive(Default)]
pub(super) struct AnswerChanges<'v>(Vec<List<'v>>);

/// One list of changes, with what the request tells filled in.
#[derive(Default)]
struct List<'v> {
    remove: Vec<&'v str>,
    values: Vec<(Change, &'v str, Value<'v>)>,
}

impl<'v> AnswerChanges<'v> {
    /// The changes of `lists`, in their order, to the answer to a request that goes up with `changes`. It always names
    /// us as its server, as in Envoy.
    pub(super) fn of(
        lists: [Option<&'v HeaderEdits>; 2],
        request: &RequestFacts<'_>,
        changes: &RequestChanges<'_>,
    ) -> Self {
        let list = |edits: &'v Edits| List {
            remove: removals(edits).collect(),
            values: values(edits)
                .filter(|(_, name, _)| *name != "server")
                .map(|(change, name, format)| (change, name, Value::of(format, request, changes)))
                .collect(),
        };
        let edits = lists.into_iter().flatten().map(|edits| &edits.response);
        Self(edits.filter(|edits| !edits.is_empty()).map(list).collect())
    }

    /// Whether nothing is changed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A line that comes beside others of its name.
    pub(super) fn push_add(&mut self, name: &'v str, value: &[u8]) {
        self.0.push(List { remove: Vec::new(), values: vec![(Change::Add, name, Value::fixed(value))] });
    }

    /// Lines that replace all others of their names, whatever the lists before say.
    pub(super) fn push_set(&mut self, lines: Vec<(&'v str, Vec<u8>)>) {
        let values = lines.into_iter().map(|(name, value)| (Change::Set, name, Value::fixed(&value)));
        self.0.push(List { remove: Vec::new(), values: values.collect() });
    }

    /// The changes, now that the answer is there.
    pub(super) fn finish(&self, answer: &AnswerFacts<'_>) -> Fields<'_> {
        let mut fields = Fields::default();
        for List { remove, values } in &self.0 {
            remove.iter().for_each(|name| fields.remove(name));
            let field = |name: &str| {
                let received = (answer.field)(name).filter(|_| !fields.drops(name));
                received.or_else(|| fields.lines(name).into_iter().next())
            };
            let facts = AnswerFacts { field: &field, ..*answer };
            let filled: Vec<_> = values
                .iter()
                .map(|(change, name, value)| (*change, *name, value.finish(Some(&facts))))
                .collect();
            filled.into_iter().for_each(|(change, name, value)| fields.take(change, name, value));
        }
        fields
    }
}
