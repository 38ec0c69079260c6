//! What a request asks for: path, query and headers taken apart, as Kubernetes' `RequestInfo`.

use http::{HeaderMap, Method, header, request::Parts};
use percent_encoding::percent_decode_str;

/// What a request does to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// A stream of changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// One object.
    Delete,
    /// All that match.
    DeleteCollection,
    /// A path that is no resource, as `/version`.
    Other,
}

impl Verb {
    /// The name as RBAC says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "other",
        }
    }

    /// The verb of this name; [`Verb::Other`] for an unknown one.
    pub fn named(name: &str) -> Self {
        let all = [
            Self::Get,
            Self::List,
            Self::Watch,
            Self::Create,
            Self::Update,
            Self::Patch,
            Self::Delete,
            Self::DeleteCollection,
        ];
        all.into_iter()
            .find(|verb| verb.as_str() == name)
            .unwrap_or(Self::Other)
    }

    /// Whether it may change something.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Patch | Self::Delete | Self::DeleteCollection
        )
    }
}

/// Decoded query parameters, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a raw query string apart.
    pub fn parse(raw: &str) -> Self {
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of `key`; none when it is missing or empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether `key` is given as true.
    pub fn flag(&self, key: &str) -> bool {
        self.0
            .iter()
            .any(|(name, value)| name == key && matches!(value.as_str(), "true" | "1" | ""))
    }
}

/// One request, taken apart.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// What is done.
    pub verb: Verb,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural, empty for paths that are no resource.
    pub resource: String,
    /// Namespace, if the path has one.
    pub namespace: Option<String>,
    /// Object, if the path has one.
    pub name: Option<String>,
    /// All that follows the name, as `status` or `evacuate/cancel`.
    pub subresource: Option<String>,
    /// The path as sent.
    pub path: String,
    /// Query parameters.
    pub query: Query,
    /// `User-Agent`.
    pub user_agent: String,
    /// `Content-Type`, without parameters.
    pub content_type: String,
    /// `Accept`, as sent.
    pub accept: String,
    /// The bearer token, if any.
    pub bearer: Option<String>,
}

impl RequestInfo {
    /// Takes the head of a request apart.
    pub fn parse(parts: &Parts) -> Self {
        let path = parts.uri.path();
        let decoded: Vec<String> = path
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let mut info = Self {
            verb: Verb::Other,
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            namespace: None,
            name: None,
            subresource: None,
            path: path.to_owned(),
            query,
            user_agent: header_text(&parts.headers, &header::USER_AGENT),
            content_type: header_text(&parts.headers, &header::CONTENT_TYPE)
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned(),
            accept: header_text(&parts.headers, &header::ACCEPT),
            bearer: header_text(&parts.headers, &header::AUTHORIZATION)
                .strip_prefix("Bearer ")
                .map(str::to_owned),
        };
        let rest = match segments.as_slice() {
            ["api", version, rest @ ..] => {
                (*version).clone_into(&mut info.version);
                rest
            }
            ["apis", group, version, rest @ ..] => {
                (*group).clone_into(&mut info.group);
                (*version).clone_into(&mut info.version);
                rest
            }
            _ => return info,
        };
        info.place(rest);
        info.verb = info.verb_of(&parts.method);
        info
    }

    fn place(&mut self, rest: &[&str]) {
        let rest = rest.strip_prefix(&["watch"]).unwrap_or(rest);
        let rest = match rest {
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => rest,
            ["namespaces", name, rest @ ..] => {
                self.namespace = Some((*name).to_owned());
                rest
            }
            rest => rest,
        };
        if let [resource, rest @ ..] = rest {
            (*resource).clone_into(&mut self.resource);
            if let [name, rest @ ..] = rest {
                self.name = Some((*name).to_owned());
                if !rest.is_empty() {
                    self.subresource = Some(rest.join("/"));
                }
            }
        }
    }

    fn verb_of(&self, method: &Method) -> Verb {
        if self.resource.is_empty() {
            return Verb::Other;
        }
        match (method, self.name.is_some()) {
            (&Method::GET | &Method::HEAD, _) if self.query.flag("watch") && self.subresource.is_none() => Verb::Watch,
            (&Method::GET | &Method::HEAD, true) => Verb::Get,
            (&Method::GET | &Method::HEAD, false) => Verb::List,
            (&Method::POST, _) => Verb::Create,
            (&Method::PUT, _) => Verb::Update,
            (&Method::PATCH, _) => Verb::Patch,
            (&Method::DELETE, true) => Verb::Delete,
            (&Method::DELETE, false) => Verb::DeleteCollection,
            _ => Verb::Other,
        }
    }

    /// The namespace, empty for all or none.
    pub fn ns(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Whether nothing must be kept (`dryRun=All`).
    pub fn dry_run(&self) -> bool {
        self.query.get("dryRun") == Some("All")
    }

    /// The same with `dryRun=All`.
    pub(crate) fn with_dry_run(mut self) -> Self {
        self.query.0.push(("dryRun".to_owned(), "All".to_owned()));
        self
    }

    /// The name under which written fields are kept: `fieldManager`, else the first word of the user agent.
    pub fn manager(&self) -> &str {
        self.query
            .get("fieldManager")
            .or_else(|| self.user_agent.split('/').next().filter(|agent| !agent.is_empty()))
            .unwrap_or("unknown")
    }
}

fn header_text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        let (parts, ()) = http::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        RequestInfo::parse(&parts)
    }

    #[test]
    fn paths_are_taken_apart_as_kubernetes_does() {
        for (method, uri, verb, namespace, resource, name, subresource) in [
            (
                Method::GET,
                "/api/v1/namespaces/a",
                Verb::Get,
                "",
                "namespaces",
                "a",
                "",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                Verb::Update,
                "",
                "namespaces",
                "a",
                "finalize",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods",
                Verb::List,
                "a",
                "pods",
                "",
                "",
            ),
            (Method::GET, "/api/v1/pods?watch=1", Verb::Watch, "", "pods", "", ""),
            (
                Method::POST,
                "/api/v1/namespaces/a/pods/p/eviction",
                Verb::Create,
                "a",
                "pods",
                "p",
                "eviction",
            ),
            (
                Method::PUT,
                "/apis/subresources.example.io/v1/namespaces/a/vms/v/evacuate/cancel",
                Verb::Update,
                "a",
                "vms",
                "v",
                "evacuate/cancel",
            ),
            (
                Method::DELETE,
                "/apis/g/v1/things?labelSelector=a%3Db",
                Verb::DeleteCollection,
                "",
                "things",
                "",
                "",
            ),
        ] {
            let info = parse(method, uri);
            assert_eq!(info.verb, verb, "{uri}");
            assert_eq!(info.ns(), namespace, "{uri}");
            assert_eq!(info.resource, resource, "{uri}");
            assert_eq!(info.name.as_deref().unwrap_or_default(), name, "{uri}");
            assert_eq!(info.subresource.as_deref().unwrap_or_default(), subresource, "{uri}");
        }
    }
}
