//! Since when resources are there: what comes later must not take the place of what serves.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{Resource, ResourceId, Timestamp};

/// What came and what went since all files were looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    /// By file.
    came: HashMap<Arc<str>, HashSet<ResourceId>>,
    /// With what they counted as.
    went: HashMap<ResourceId, Option<Timestamp>>,
}

impl News {
    /// Takes note of a file that held `before` and now holds others, without those that are `gone`.
    pub(super) fn read(&mut self, file: &str, before: &[Resource], (now, gone): (&[Resource], &[Resource])) {
        let before: HashSet<&ResourceId> = before.iter().map(Resource::id).collect();
        let came = now.iter().map(Resource::id).filter(|id| !before.contains(id));
        let came: HashSet<ResourceId> = came.cloned().collect();
        if !came.is_empty() {
            self.came.entry(file.into()).or_default().extend(came);
        }
        self.went.extend(gone.iter().map(|one| (one.id().clone(), one.meta().appeared)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// Dates those resources of a file that came; who went from another file is who came here.
    pub(super) fn date(&self, file: &str, resources: &mut [Resource], now: Timestamp) {
        let Some(came) = self.came.get(file) else { return };
        for resource in resources.iter_mut().filter(|resource| came.contains(resource.id())) {
            resource.set_appeared(self.went.get(resource.id()).copied().unwrap_or(Some(now)));
        }
    }
}

/// Lets resources that were there before keep their age.
pub(super) fn inherit(before: &[Resource], now: &mut [Resource]) {
    let dated = before.iter().filter(|resource| resource.meta().appeared.is_some());
    let ages: HashMap<&ResourceId, _> = dated.map(|one| (one.id(), one.meta().appeared)).collect();
    for resource in now.iter_mut().filter(|_| !ages.is_empty()) {
        if let Some(appeared) = ages.get(resource.id()) {
            resource.set_appeared(*appeared);
        }
    }
}
