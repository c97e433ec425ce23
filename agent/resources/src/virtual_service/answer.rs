//! What takes the place of destinations: an answer of the proxy's own, or another VirtualService.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{check_one_of, check_status};
use crate::{
    Path,
    decode::{Context, Fields, PortNumber, Shape},
    finding::{Problem, Rule},
};

/// A fixed answer (`HTTPDirectResponse`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DirectResponse {
    /// Status code, 200–599.
    pub status: u16,
    /// Body; may be empty. At most 1 MiB.
    pub body: String,
}

impl Shape for DirectResponse {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let status: u32 = fields.required("status");
        let body: Option<HttpBody> = fields.optional("body");
        // Out of range becomes 0, which `check` refuses.
        Self { status: u16::try_from(status).unwrap_or_default(), body: body.unwrap_or_default().0 }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_status(self.status.into(), 200..=599, &at.field("status"), context);
        let size = self.body.len();
        if size > 1 << 20 {
            let problem = Problem::new("is too large").found(format!("{size} bytes"));
            context.error(&at.field("body"), problem.expected("at most 1 MiB"));
        } else if size > 100 << 10 {
            let problem = Problem::new("is large").found(format!("{size} bytes"));
            context.warning(
                Rule::Invalid,
                &at.field("body"),
                problem.remedy("every answer carries it: keep it short"),
            );
        }
    }
}

#[derive(Default)]
struct HttpBody(String);

impl Shape for HttpBody {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let text: Option<String> = fields.optional("string");
        let encoded: Option<String> = fields.optional("bytes");
        if text.is_some() && encoded.is_some() {
            fields.error_here(Problem::new("has both `string` and `bytes`").expected("one of them"));
        }
        let decoded = encoded.map(|encoded| STANDARD.decode(encoded).map(String::from_utf8));
        match decoded {
            None => Self(text.unwrap_or_default()),
            Some(Ok(Ok(text))) => Self(text),
            Some(Ok(Err(_))) => {
                let problem = Problem::new("is not text, which is not supported yet");
                fields.error("bytes", problem.remedy("let a service answer"));
                Self::default()
            }
            Some(Err(_)) => {
                fields.error("bytes", Problem::new("is not base64").expected("base64 with padding"));
                Self::default()
            }
        }
    }
}

/// A redirect (`HTTPRedirect`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redirect {
    /// New path.
    pub uri: Option<String>,
    /// Replacement of the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// New host.
    pub authority: Option<String>,
    /// New port.
    pub port: Option<u16>,
    /// Where the port is taken from: `FROM_PROTOCOL_DEFAULT` or `FROM_REQUEST_PORT`.
    pub derive_port: Option<String>,
    /// New scheme, `http` or `https`.
    pub scheme: Option<String>,
    /// Status code; 301 when absent.
    pub redirect_code: Option<u32>,
}

impl Shape for Redirect {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let port: Option<PortNumber> = fields.optional("port");
        Self {
            uri: fields.optional("uri"),
            prefix_rewrite: fields.optional("prefixRewrite"),
            authority: fields.optional("authority"),
            port: port.map(PortNumber::get),
            derive_port: fields.optional("derivePort"),
            scheme: fields.optional("scheme"),
            redirect_code: fields.optional("redirectCode"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            context.error(at, Problem::new("is empty").expected("at least one thing to change"));
        }
        if self.uri.is_some() && self.prefix_rewrite.is_some() {
            context.error(at, Problem::new("has both `uri` and `prefixRewrite`").expected("one of them"));
        }
        if self.port.is_some() && self.derive_port.is_some() {
            context.error(at, Problem::new("has both `port` and `derivePort`").expected("one of them"));
        }
        for (text, field) in
            [(&self.uri, "uri"), (&self.prefix_rewrite, "prefixRewrite"), (&self.authority, "authority")]
        {
            check_visible(text.as_deref(), &at.field(field), context);
        }
        check_one_of(self.scheme.as_deref(), &["http", "https"], &at.field("scheme"), context);
        let ways = ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"];
        check_one_of(self.derive_port.as_deref(), &ways, &at.field("derivePort"), context);
        if let Some(code) = self.redirect_code.filter(|code| !matches!(code, 301 | 302 | 303 | 307 | 308)) {
            let problem = Problem::new("is not a redirect").found(code).expected("301, 302, 303, 307 or 308");
            context.error(&at.field("redirectCode"), problem);
        }
    }
}

/// What becomes part of a request line or header holds nothing that ends it.
pub(super) fn check_visible(text: Option<&str>, at: &Path<'_>, context: &mut Context<'_>) {
    if let Some(text) = text.filter(|text| text.contains(|c: char| c.is_control() || c == ' ')) {
        let problem = Problem::new("holds a blank or a control character").found(text);
        context.error(at, problem.remedy("write it percent-encoded"));
    }
}

/// Another VirtualService that the rule is left to (`Delegate`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; absent means the same.
    pub namespace: Option<String>,
}

impl Shape for Delegate {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { name: fields.required("name"), namespace: fields.optional("namespace") }
    }
}
