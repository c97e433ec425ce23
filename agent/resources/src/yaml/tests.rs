use super::*;

fn only(text: &str) -> Node<'_> {
    let mut all = documents(text);
    let node = all.next().expect("one document").expect("valid YAML");
    assert!(all.next().is_none());
    node
}

fn refused(text: &str) -> String {
    let error = documents(text).find_map(Result::err).expect("a syntax error");
    format!("{}:{}: {}", error.position.line, error.position.column, error.problem)
}

/// Compact form for comparisons.
fn shown(node: &Node<'_>) -> String {
    match &node.value {
        Value::Scalar { text, plain: true } => text.to_string(),
        Value::Scalar { text, plain: false } => format!("'{text}'"),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let member = |m: &Member<'_>| format!("{}:{}", m.key, shown(&m.value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn yaml_and_json_give_the_same_tree() {
    let yaml = "a:\n  b: [1, x]\n  c: \"é/\"\n";
    let json = "{\n\t\"a\": {\"b\":[1,\"x\"],\"c\":\"\\u00e9\\/\"}\n}";
    assert_eq!(shown(&only(yaml)), "{a:{b:[1,x],c:'é/'}}");
    assert_eq!(shown(&only(json)), "{a:{b:[1,'x'],c:'é/'}}");
}

/// The documents that are read as JSON, and those read as other YAML after them.
fn split(text: &str) -> (usize, usize) {
    let mut json = json::Documents::new(Piece::from(text));
    (json.by_ref().count(), whole::Documents::new(json.rest()).count())
}

/// All documents with every position, as far as one is broken.
fn by_yaml_alone(text: &str) -> Vec<String> {
    let good = whole::Documents::new(Piece::from(text)).map_while(Result::ok);
    good.filter(|node| !node.is_null()).map(|node| format!("{node:?}")).collect()
}

fn by_both(text: &str) -> Vec<String> {
    documents(text).map_while(Result::ok).map(|node| format!("{node:?}")).collect()
}

#[test]
fn json_is_read_as_json_until_something_else_comes() {
    let text =
        "{\"a\": 1}\n--- {\"b\": [true, null]}\n---\n{\n \"c\": \"\\n\"\n}\n---\nd: 1\n---\n{\"e\": 1}\n";
    assert_eq!(split(text), (3, 2));
    assert_eq!(by_both(text), by_yaml_alone(text));
    assert_eq!(by_both(text).len(), 5);
}

#[test]
fn what_json_alone_would_read_otherwise_is_read_as_yaml() {
    for text in [
        "{a: 1}",
        "{\"a\": 1, }",
        "{\"a\": 1} # one",
        "{\"a\": \"x\n  y\"}",
        "{\"a\": 1}\n...\n{\"a\": 1}",
        "{\"\u{e9}\": 1}",
        "{\"a\": 1,\r\n\"b\": 2}",
        "---{\"a\": 1}",
        "{\"a\": &b 1, \"c\": *b}",
        "{\"a\": 1}\n%YAML 1.2\n---\n{\"b\": 1}",
    ] {
        assert_eq!(split(text).0, 0, "{text}");
        assert_eq!(by_both(text), by_yaml_alone(text), "{text}");
    }
}

#[test]
fn mistakes_in_json_are_told_as_those_of_yaml() {
    let deep = |depth| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
    let twice = "{\"a\": 1}\n---\n{\"b\": 1, \"b\": 2}".to_owned();
    let (open, no_colon) = ("{\"a\": 1}\n---\n{\"b\": [}".to_owned(), "\n\n{\"a\" 1}".to_owned());
    for text in [twice, open, no_colon, deep(100), deep(5_000)] {
        let told = |text: &str| {
            let error = whole::Documents::new(Piece::from(text)).find_map(Result::err).unwrap();
            format!("{}:{}: {}", error.position.line, error.position.column, error.problem)
        };
        assert_eq!(refused(&text), told(&text));
    }
}

proptest::proptest! {
    #[test]
    fn json_comes_to_the_same_read_either_way(parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..24)) {
        let list = format!("{{\"a\": [{}]}}", parts.join(","));
        let members = parts.iter().enumerate().map(|(at, part)| format!(" \"k{at}\"\n:{part}"));
        let object = format!("{{{}}}", members.collect::<Vec<_>>().join(",\t"));
        let text = format!("{list}\n---\n\n{object}\n---\n{list}");
        assert_eq!(split(&text), (3, 0), "{text}");
        assert_eq!(by_both(&text), by_yaml_alone(&text), "{text}");
    }

    #[test]
    fn whatever_looks_like_json_comes_to_the_same(text in "(\\{\"a\":|[0-9{}\\[\\]\",:\\\\ntrue.e \n-]|\n---\n){0,40}") {
        let yaml = by_yaml_alone(&text);
        let both = by_both(&text);
        assert_eq!(&both[..yaml.len().min(both.len())], &yaml[..], "{text}");
    }
}

/// Values of JSON, of every kind and in every notation.
const PARTS: &[&str] = &[
    "0",
    "-1",
    "1.5e3",
    "true",
    "false",
    "null",
    "\"\"",
    "\"x\"",
    "\"null\"",
    "\"a b # c: d\"",
    "\"---\"",
    "{}",
    "[]",
    " [1, 2]",
    "{\"a\": {}}",
    "\n  {\"a\": [\"b\"]}",
    "\"\\\"\"",
    "\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u00e9\\u0041\"",
    "\"\\ud83d\\ude00\"",
    "\t1\n",
];

#[test]
fn positions_count_from_one_in_characters() {
    let node = only("é: 1\nb:\n  - é: x\n");
    let b = node.member("b").unwrap();
    assert_eq!((b.key_position.line, b.key_position.column), (2, 1));
    let Value::List(items) = &b.value.value else { panic!("no list") };
    let x = &items[0].member("é").unwrap().value;
    assert_eq!((x.position.line, x.position.column), (3, 8));
}

#[test]
fn empty_documents_are_skipped_and_a_broken_one_costs_only_itself() {
    let all: Vec<_> = documents("# nothing\n---\n---\na: 1\n---\nb: \"x\nc: 2\n---\nd: 3\n---\n").collect();
    let shown: Vec<_> = all.iter().map(|d| d.as_ref().map_or("broken".to_owned(), shown)).collect();
    assert_eq!(shown, ["{a:1}", "broken", "{d:3}"]);
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    let node = only("a: &x {k: v, l: 1}\nb: *x\nc:\n  <<: *x\n  k: w\n");
    assert_eq!(shown(&node), "{a:{k:v,l:1},b:{k:v,l:1},c:{k:w,l:1}}");
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..9 {
        let before = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [before.as_str(); 10].join(","));
    }
    assert!(refused(&bomb).contains("more than 2000000 values"), "{}", refused(&bomb));
}

#[test]
fn nesting_is_bounded_also_through_aliases() {
    let flow = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(refused(&flow).contains("not valid YAML"), "{}", refused(&flow));
    let mut chain = String::from("a0: &a0 [x]\n");
    for i in 1..200 {
        chain += &format!("a{i}: &a{i} [*a{}]\n", i - 1);
    }
    assert!(refused(&chain).contains("nest deeper than 64"), "{}", refused(&chain));
    assert!(refused("a: &a [*a]\n").contains("inside the value it repeats"));
}

#[test]
fn fields_written_twice_are_refused() {
    assert_eq!(refused("a: 1\nb: 2\na: 3\n"), "3:1: field `a` is written twice (remove one of the two)");
    let remedy = "(put `---` on the line before it if another resource begins here)";
    assert_eq!(refused("kind: A\nkind: B\n"), format!("2:1: field `kind` is written twice {remedy}"));
    assert_eq!(
        refused("a: {kind: A, kind: B}"),
        "1:14: field `kind` is written twice (remove one of the two)"
    );
    let many: String = (0..40).map(|i| format!("k{}: 1\n", i % 39)).collect();
    assert!(refused(&many).starts_with("40:1: field `k0` is written twice"));
}

#[test]
fn a_missing_blank_is_named() {
    let text = "port:\n  number: 80\n  name: http\n  protocol:HTTP\nhosts:\n- x\n";
    assert_eq!(refused(text), "4:3: a blank is missing after `protocol:` (expected `protocol: value`)");
}

#[test]
fn a_field_indented_under_text_is_named() {
    for comment in ["", " # <---- bind to gateway"] {
        let text =
            format!("spec:\n  hosts:\n    - a.com\n  gateways:\n  - gw{comment}\n    http:\n  - match:\n");
        assert_eq!(
            refused(&text),
            "6:5: `http:` is indented under the text in line 5, which holds no fields \
             (write `http:` in column 3, like `gateways:` in line 4)"
        );
    }
}

#[test]
fn other_mistakes_keep_the_parsers_words() {
    assert!(refused("a:\n\tb: 1\n").starts_with("2:2: is not valid YAML: tabs disallowed"));
    assert!(refused("a: *nope\n").starts_with("1:4: is not valid YAML"));
    let after_a_list = refused("a: [b]\n  c: d\n");
    assert!(after_a_list.contains("is not valid YAML"), "{after_a_list}");
}
