//! What of a configuration dump is asked for: `?resource=`, `?mask=`, `?name_regex=`, `?include_eds`, as in Envoy.

use http::StatusCode;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::{last_line, query::Query};
use crate::status::RefusedListener;

/// Why there is no dump, in Envoy's words.
pub(super) type Refusal = (StatusCode, String);

/// Keeps of `{"configs": [...]}` what a query asks for.
pub(super) fn selected(mut dump: Value, query: &Query) -> Result<Value, Refusal> {
    let names = query.get("name_regex").map(name_pattern).transpose()?;
    let mut sections: Vec<Value> = match dump["configs"].take() {
        Value::Array(sections) => sections,
        _ => Vec::new(),
    };
    let asks_for_endpoints = query.has("include_eds") || query.get("resource") == Some(ENDPOINTS);
    sections.retain(|section| asks_for_endpoints || section.get(ENDPOINTS).is_none());
    if let Some(names) = &names {
        sections.iter_mut().for_each(|section| keep_named(section, names));
    }
    let mut configs = match query.get("resource") {
        Some(resource) => elements(sections, resource)?,
        None => sections,
    };
    if let Some(mask) = query.get("mask") {
        configs = masked(configs, mask);
        if configs.is_empty() && !query.has("resource") {
            let problem = format!("FieldMask {mask} could not be successfully applied to any configs.");
            return Err((StatusCode::BAD_REQUEST, problem));
        }
    }
    Ok(if configs.is_empty() { json!({}) } else { json!({"configs": configs}) })
}

/// Says of listeners that could not be opened why (`error_state`).
pub(super) fn tell_refused(dump: &mut Value, refused: &[RefusedListener]) {
    let sections = dump["configs"].as_array_mut().into_iter().flatten();
    let lists = sections.filter_map(|section| section.get_mut("dynamic_listeners")?.as_array_mut());
    for listener in lists.flatten() {
        let is_it = |refused: &&RefusedListener| listener["name"] == *refused.name;
        if let Some(RefusedListener { reason, .. }) = refused.iter().find(is_it) {
            listener["error_state"] = json!({"details": reason});
        }
    }
}

/// Endpoints are dumped only when asked for, as in Envoy: there may be many.
const ENDPOINTS: &str = "dynamic_endpoint_configs";

/// The lists that a dump may have, each with the type of its elements.
const LISTS: [(&str, &str); 15] = [
    ("static_clusters", "ClustersConfigDump.StaticCluster"),
    ("dynamic_active_clusters", "ClustersConfigDump.DynamicCluster"),
    ("dynamic_warming_clusters", "ClustersConfigDump.DynamicCluster"),
    ("static_endpoint_configs", "EndpointsConfigDump.StaticEndpointConfig"),
    (ENDPOINTS, "EndpointsConfigDump.DynamicEndpointConfig"),
    ("static_listeners", "ListenersConfigDump.StaticListener"),
    ("dynamic_listeners", "ListenersConfigDump.DynamicListener"),
    ("static_route_configs", "RoutesConfigDump.StaticRouteConfig"),
    ("dynamic_route_configs", "RoutesConfigDump.DynamicRouteConfig"),
    ("static_secrets", "SecretsConfigDump.StaticSecret"),
    ("dynamic_active_secrets", "SecretsConfigDump.DynamicSecret"),
    ("dynamic_warming_secrets", "SecretsConfigDump.DynamicSecret"),
    ("inline_scoped_route_configs", "ScopedRoutesConfigDump.InlineScopedRouteConfigs"),
    ("dynamic_scoped_route_configs", "ScopedRoutesConfigDump.DynamicScopedRouteConfigs"),
    ("ecds_filters", "EcdsConfigDump.EcdsFilterConfig"),
];

fn name_pattern(pattern: &str) -> Result<Regex, Refusal> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        let reason = last_line(&error);
        let problem = format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {reason}");
        (StatusCode::BAD_REQUEST, problem)
    })
}

fn keep_named(section: &mut Value, names: &Regex) {
    for (list, _) in LISTS {
        if let Some(elements) = section.get_mut(list).and_then(Value::as_array_mut) {
            elements.retain(|element| name(element).is_some_and(|name| names.is_match(name)));
        }
    }
}

/// The name of what an element of a list describes.
fn name(element: &Value) -> Option<&str> {
    let described = ["cluster", "route_config"].into_iter().find_map(|key| element.get(key)?.get("name"));
    let assignment = || element.get("endpoint_config")?.get("cluster_name");
    described.or_else(assignment).or_else(|| element.get("name"))?.as_str()
}

/// The elements of a list, each with its type.
fn elements(sections: Vec<Value>, resource: &str) -> Result<Vec<Value>, Refusal> {
    let known = LISTS.iter().find(|(list, _)| *list == resource);
    let Some((list, element_type)) = known else {
        let is_there =
            resource == "bootstrap" || sections.iter().any(|section| section.get(resource).is_some());
        return Err(match is_there {
            true => (
                StatusCode::BAD_REQUEST,
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field"),
            ),
            false => (StatusCode::NOT_FOUND, format!("{resource} not found in config dump")),
        });
    };
    let all = sections.into_iter().filter_map(|mut section| match section.get_mut(*list)?.take() {
        Value::Array(elements) => Some(elements),
        _ => None,
    });
    let typed = |element: Value| {
        let mut typed = Map::new();
        typed.insert("@type".to_owned(), format!("type.googleapis.com/envoy.admin.v3.{element_type}").into());
        typed.extend(element.as_object().cloned().unwrap_or_default());
        Value::Object(typed)
    };
    Ok(all.flatten().map(typed).collect())
}

/// What a mask names, `a.b,c`; what has nothing of it is left out.
fn masked(configs: Vec<Value>, mask: &str) -> Vec<Value> {
    let paths: Vec<Vec<&str>> = mask.split(',').map(|path| path.split('.').collect()).collect();
    let kept = configs.into_iter().filter_map(|config| {
        let mut kept = Map::new();
        paths.iter().for_each(|path| keep(&config, path, &mut kept));
        if kept.is_empty() {
            return None;
        }
        let typed = config.get("@type").map(|kind| ("@type".to_owned(), kind.clone()));
        kept.extend(typed);
        Some(Value::Object(kept))
    });
    kept.collect()
}

/// Copies what is at a path, with the objects around it and their types.
fn keep(from: &Value, path: &[&str], to: &mut Map<String, Value>) {
    let [first, rest @ ..] = path else { return };
    let Some(found) = from.get(*first) else { return };
    if rest.is_empty() {
        to.insert((*first).to_owned(), found.clone());
        return;
    }
    let mut inner = match to.remove(*first) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    keep(found, rest, &mut inner);
    if !inner.is_empty() {
        inner.extend(found.get("@type").map(|kind| ("@type".to_owned(), kind.clone())));
        to.insert((*first).to_owned(), inner.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Value, Refusal> {
        let dump = json!({"configs": [
            {"@type": "C", "version_info": "1", "dynamic_active_clusters": [
                {"version_info": "1", "cluster": {"@type": "Cluster", "name": "a", "type": "EDS"}},
                {"version_info": "1", "cluster": {"@type": "Cluster", "name": "ab", "type": "STATIC"}},
            ]},
            {"@type": "E", "dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": "a"}}]},
            {"@type": "L", "version_info": "1", "dynamic_listeners": [{"name": "l"}]},
        ]});
        selected(dump, &Query::parse(Some(query)))
    }

    #[test]
    fn endpoints_are_there_when_asked_for() {
        let sections = |query: &str| ask(query).unwrap()["configs"].as_array().unwrap().len();
        assert_eq!((sections(""), sections("include_eds"), sections("include_eds=true")), (2, 3, 3));
        let kind = "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump.DynamicEndpointConfig";
        assert_eq!(ask("resource=dynamic_endpoint_configs").unwrap()["configs"][0]["@type"], kind);
    }

    #[test]
    fn lists_names_and_fields_are_picked_out() {
        let kind = "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster";
        let one = ask("resource=dynamic_active_clusters&name_regex=a.&mask=cluster.name").unwrap();
        let cluster = json!({"@type": "Cluster", "name": "ab"});
        assert_eq!(one, json!({"configs": [{"@type": kind, "cluster": cluster}]}));
        let whole = ask("name_regex=l").unwrap();
        assert_eq!(whole["configs"][0]["dynamic_active_clusters"], json!([]));
        assert_eq!(whole["configs"][1]["dynamic_listeners"], json!([{"name": "l"}]));
        assert_eq!(ask("mask=dynamic_listeners").unwrap()["configs"].as_array().unwrap().len(), 1);
        assert_eq!(ask("resource=static_clusters").unwrap(), json!({}));
    }

    #[test]
    fn what_there_is_not_is_told_as_by_envoy() {
        let refused = |query: &str| {
            let (status, problem) = ask(query).unwrap_err();
            (status.as_u16(), problem)
        };
        let message = "nonsense not found in config dump";
        assert_eq!(refused("resource=nonsense"), (404, message.to_owned()));
        let message = "FieldMask nonsense could not be successfully applied to any configs.";
        assert_eq!(refused("mask=nonsense"), (400, message.to_owned()));
        let message = "version_info is not a repeated field. Use ?mask=version_info to get only this field";
        assert_eq!(refused("resource=version_info"), (400, message.to_owned()));
        let (status, problem) = refused("name_regex=(");
        assert!(
            status == 400 && problem.starts_with("INVALID_ARGUMENT: Error while parsing name_regex from (: "),
            "{problem}"
        );
    }
}
