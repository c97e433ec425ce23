use super::*;

#[derive(Default)]
struct Request {
    method: &'static str,
    authority: &'static str,
    target: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

impl RequestHead for Request {
    fn method(&self) -> &str {
        self.method
    }
    fn authority(&self) -> &str {
        self.authority
    }
    fn path_and_query(&self) -> &str {
        self.target
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        let line = self.headers.iter().find(|(line, _)| line.eq_ignore_ascii_case(name));
        line.map(|(_, value)| value.as_bytes())
    }
    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.headers.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
    }
}

fn pattern(source: &str) -> Pattern {
    Pattern::new(source).unwrap()
}

#[test]
fn prefixes_are_plain_text() {
    let foo = PathMatch::prefix("/foo");
    assert!(foo.matches("/foo") && foo.matches("/foobar") && foo.matches("/foo/é"));
    assert!(!foo.matches("/fo") && !foo.matches("/Foo") && !foo.matches("x/foo"));
    assert!(PathMatch::prefix("").matches("/") && PathMatch::Any.matches(""));
    // The end of the prefix may fall inside a character of the path.
    assert!(!PathMatch::prefix("/a").matches("/é"));
}

#[test]
fn case_is_ignored_in_exact_and_prefix_only_when_asked() {
    let ignoring = |text: &str| PathText { text: text.to_owned(), ignore_case: true };
    assert!(PathMatch::Exact(ignoring("/Foo")).matches("/fOO"));
    assert!(PathMatch::Prefix(ignoring("/Foo")).matches("/fOObar"));
    assert!(!PathMatch::Exact(ignoring("/Foo")).matches("/foobar"));
    assert!(!PathMatch::exact("/Foo").matches("/foo"));
}

#[test]
fn the_path_is_compared_without_query() {
    let only = RouteMatch::on_path(PathMatch::exact("/a"));
    assert!(only.matches(&Request { target: "/a?b=/c", ..Request::default() }, false));
    let expression = RouteMatch::on_path(PathMatch::Regex(pattern("/[a-z]")));
    assert!(expression.matches(&Request { target: "/a?b", ..Request::default() }, false));
    assert!(!expression.matches(&Request { target: "/ab", ..Request::default() }, false));
}

#[test]
fn text_is_compared_with_case() {
    let authority = |condition| RouteMatch { authority: Some(condition), ..RouteMatch::default() };
    let request = Request { authority: "A.com:8080", method: "GET", ..Request::default() };
    assert!(authority(TextMatch::Exact("A.com:8080".into())).matches(&request, false));
    assert!(!authority(TextMatch::Exact("a.com:8080".into())).matches(&request, false));
    assert!(!authority(TextMatch::Exact("A.com".into())).matches(&request, false));
    assert!(authority(TextMatch::Prefix("A.com".into())).matches(&request, false));
    assert!(authority(TextMatch::Regex(pattern(".*:8080"))).matches(&request, false));
    let method =
        |text: &str| RouteMatch { method: Some(TextMatch::Exact(text.into())), ..RouteMatch::default() };
    assert!(method("GET").matches(&request, false) && !method("get").matches(&request, false));
}

#[test]
fn the_scheme_is_how_the_request_came_in() {
    let https = RouteMatch { scheme: Some(TextMatch::Exact("https".into())), ..RouteMatch::default() };
    let request = Request::default();
    assert!(https.matches(&request, true) && !https.matches(&request, false));
}

fn header(condition: TextMatch, invert: bool, lines: &[(&'static str, &'static str)]) -> bool {
    let request = Request { headers: lines.to_vec(), ..Request::default() };
    HeaderMatch { name: "x-a".into(), condition, invert }.matches(&request)
}

#[test]
fn one_line_of_a_repeated_header_is_enough() {
    let lines = [("X-A", "1"), ("x-b", "-"), ("x-a", "2"), ("X-a", "3")];
    for text in ["1", "2", "3"] {
        assert!(header(TextMatch::Exact(text.into()), false, &lines), "{text}");
        assert!(!header(TextMatch::Exact(text.into()), true, &lines), "{text}");
    }
    for text in ["-", "1,2,3", "4"] {
        assert!(!header(TextMatch::Exact(text.into()), false, &lines), "{text}");
        assert!(header(TextMatch::Exact(text.into()), true, &lines), "{text}");
    }
    assert!(!header(TextMatch::Regex(pattern("1,.*")), false, &lines));
}

#[test]
fn a_missing_header_never_matches() {
    for condition in [TextMatch::Present, TextMatch::Exact(String::new()), TextMatch::Regex(pattern(".*"))] {
        assert!(!header(condition.clone(), false, &[("x-b", "")]), "{condition:?}");
        assert!(header(condition, false, &[("x-a", "")]));
    }
}

#[test]
fn an_inverted_condition_takes_a_missing_header_for_empty_text() {
    let exact = |text: &str| TextMatch::Exact(text.to_owned());
    assert!(header(exact("x"), true, &[]));
    assert!(!header(exact(""), true, &[]));
    assert!(!header(TextMatch::Regex(pattern(".*")), true, &[]));
    assert!(header(exact("x"), true, &[("x-a", "y")]));
    assert!(!header(exact("x"), true, &[("x-a", "x")]));
    // Present, inverted: the header must be absent.
    assert!(header(TextMatch::Present, true, &[]));
    assert!(!header(TextMatch::Present, true, &[("x-a", "")]));
}

#[test]
fn the_first_value_of_a_query_parameter_counts_as_sent() {
    let matches =
        |condition: TextMatch, query: &str| QueryMatch { name: "a".into(), condition }.matches(query);
    let exact = |text: &str| TextMatch::Exact(text.to_owned());
    assert!(matches(exact("1"), "b=2&a=1&a=3"));
    assert!(!matches(exact("3"), "a=1&a=3"));
    assert!(matches(exact("%31"), "a=%31") && !matches(exact("1"), "a=%31"));
    assert!(matches(TextMatch::Present, "a") && matches(exact(""), "a=") && matches(exact("b=c"), "a=b=c"));
    assert!(!matches(TextMatch::Present, "A=1") && !matches(TextMatch::Present, ""));
    assert!(matches(TextMatch::Prefix("ab".into()), "a=abc"));
}

#[test]
fn the_first_condition_that_fails_is_told() {
    let all = RouteMatch {
        path: PathMatch::prefix("/a"),
        scheme: None,
        method: Some(TextMatch::Exact("PUT".into())),
        authority: None,
        headers: vec![HeaderMatch { name: "x-a".into(), condition: TextMatch::Present, invert: false }],
        query_params: vec![QueryMatch { name: "q".into(), condition: TextMatch::Present }],
    };
    let mut request = Request { target: "/b", method: "GET", ..Request::default() };
    let told = |request: &Request| format!("{:?}", all.mismatch(request, false));
    assert!(told(&request).contains("Path"));
    request.target = "/a";
    assert!(told(&request).contains("Method"));
    request.method = "PUT";
    assert!(told(&request).contains("Header"));
    request.headers = vec![("X-A", "")];
    assert!(told(&request).contains("QueryParam"));
    request.target = "/a?q";
    assert!(all.matches(&request, false));
}

#[test]
fn only_the_path_may_be_conditioned_by_what_takes_all() {
    for path in [PathMatch::Any, PathMatch::prefix("/"), PathMatch::Regex(pattern(".*"))] {
        assert!(RouteMatch::on_path(path).takes_all());
    }
    for path in [PathMatch::exact("/"), PathMatch::prefix("/a"), PathMatch::Regex(pattern(".+"))] {
        assert!(!RouteMatch::on_path(path).takes_all());
    }
    let get = RouteMatch { method: Some(TextMatch::Exact("GET".into())), ..RouteMatch::default() };
    let header = HeaderMatch { name: "a".into(), condition: TextMatch::Present, invert: true };
    assert!(!get.takes_all() && !RouteMatch { headers: vec![header], ..RouteMatch::default() }.takes_all());
}
