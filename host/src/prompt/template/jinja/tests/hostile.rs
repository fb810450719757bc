//! Hostile templates: each ends soon, uses little memory and does not overflow the stack.

use super::super::{Program, Value};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

/// A stack at most as large as that of any thread that renders templates.
const STACK: usize = 1 << 20;

/// Renders a template and checks that it ends soon.
fn run(name: &str, template: String) -> Result<String, String> {
    let started = Instant::now();
    let run = move || {
        let user = Value::dict([
            ("role", Value::text("user")),
            ("content", Value::text("Hi")),
        ])
        .unwrap();
        let variables = BTreeMap::from([("messages", Value::list(vec![user]).unwrap())]);
        Program::parse(&template)
            .and_then(|program| program.render(&variables))
            .map_err(|fault| fault.why)
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(run).unwrap();
    let result = thread
        .join()
        .unwrap_or_else(|_| panic!("{name}: it panicked"));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "{name}: {took:?}");
    result
}

#[track_caller]
fn refused(name: &str, template: String) {
    if let Ok(text) = run(name, template) {
        panic!("{name}: it wrote {} bytes", text.len());
    }
}

/// `n.x` is replaced `times` times by a list that contains it twice.
fn doubled(times: usize) -> String {
    format!(
        "{{% set n = namespace(x=[1]) %}}{{% for a in range({times}) %}}{{% set n.x = [n.x, n.x] %}}{{% endfor %}}"
    )
}

/// `n.x` is a list that is doubled `times` times with `+`.
fn wide(times: usize) -> String {
    format!(
        "{{% set n = namespace(x=[1]) %}}{{% for a in range({times}) %}}{{% set n.x = n.x + n.x %}}{{% endfor %}}"
    )
}

#[test]
fn values_that_would_contain_themselves_are_refused() {
    let own = "{% set n = namespace(s=1) %}{% set n.s = n %}";
    for use_of in [
        "{{ n|string }}",
        "{{ n }}",
        "{{ n|upper }}",
        "{{ {'a': n} }}",
        "{{ raise_exception(n) }}",
        "{{ [n]|join }}",
        "{{ [n]|tojson }}",
        "{{ n|pprint }}",
        "{{ debug() }}",
        "{{ n ~ n }}",
        "{{ n == n }}",
    ] {
        refused(use_of, format!("{own}{use_of}"));
    }
    for other in [
        "{% set n = namespace() %}{% set n.l = [n] %}",
        "{% set n = namespace() %}{% set n.l = {'a': n} %}",
        "{% set n = namespace() %}{% set m = namespace(n=n) %}",
        "{% macro f() %}{% endmacro %}{% set n = namespace(f=f) %}",
        "{% for x in [1] %}{% set y = [loop] %}{% endfor %}",
        "{% set x = [range] %}",
        "{% set x = ['a'.upper] %}",
        "{{ namespace({'a': namespace()}) }}",
    ] {
        refused(other, other.to_owned());
    }
}

#[test]
fn deeply_nested_sources_are_refused_and_long_chains_run() {
    for times in [101, 20_000, 100_000] {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("[", "", "]"),
            ("{1:", "1", "}"),
            ("not ", "1", ""),
            ("-", "1", ""),
            ("+", "1", ""),
            ("f(", "", ")"),
            ("a[", "0", "]"),
            ("1 if ", "1", " else 2"),
            ("x|f(", "", ")"),
            ("x is f(", "", ")"),
            ("a if (", "1", ")"),
            ("[*", "", "]"),
            ("{'a':[", "1", "]}"),
            ("(1,", "", ")"),
        ] {
            let name = format!("{times} of {open}");
            refused(
                &name,
                format!(
                    "{{{{ {}{middle}{} }}}}",
                    open.repeat(times),
                    close.repeat(times)
                ),
            );
        }
        for (open, close) in [
            ("{% if 1 %}", "{% endif %}"),
            ("{% for x in [1] %}", "{% endfor %}"),
            ("{% set x %}", "{% endset %}"),
            ("{% macro f() %}", "{% endmacro %}"),
            ("{% with %}", "{% endwith %}"),
            ("{% filter upper %}", "{% endfilter %}"),
            ("{% generation %}", "{% endgeneration %}"),
            ("{% if 1 %}a{% else %}", "{% endif %}"),
            ("{% call f() %}", "{% endcall %}"),
        ] {
            let times = times.min(30_000);
            refused(open, open.repeat(times) + &close.repeat(times));
            refused(open, open.repeat(times));
        }
    }
    // Chains are flat: they run within the budget.
    let chain = |part: &str, times: usize| part.repeat(times);
    for (part, times) in [
        ("|trim", 100_000),
        (".a", 100_000),
        ("[0]", 100_000),
        ("()", 100_000),
        ("~'a'", 100_000),
        ("+1", 100_000),
        (" or 0", 100_000),
        (" and 1", 100_000),
        ("==1", 100_000),
        (" is string", 50_000),
        (" if 0 else 1", 50_000),
        ("**1", 100_000),
        ("'a'", 100_000),
        (".upper()", 100_000),
        (",1", 100_000),
    ] {
        drop(run(part, format!("{{{{ 'a'{} }}}}", chain(part, times))));
    }
    let elif = format!(
        "{{% if 0 %}}{}{{% endif %}}x",
        "{% elif 0 %}a".repeat(60_000)
    );
    assert_eq!(run("elif", elif).as_deref(), Ok("x"));
    assert_eq!(run("tags", "{{1}}".repeat(200_000)).unwrap().len(), 200_000);
    let parameters = format!(
        "{{% macro f({}) %}}{{% endmacro %}}{{{{ f() }}}}",
        "a,".repeat(100_000) + "a"
    );
    drop(run("parameters", parameters));
    refused("large", " ".repeat(2 << 20));
    refused("a long name", format!("{{{{ {} }}}}", "a".repeat(900_000)));
    for (name, text) in [
        ("comments", "{#".repeat(400_000)),
        ("raw", "{% raw %}".repeat(90_000)),
        ("braces", "{".repeat(900_000)),
        ("quotes", "{{ '".repeat(200_000)),
        ("ends", "{% raw %}".to_owned() + &"{% ".repeat(300_000)),
        ("digits", format!("{{{{ {} }}}}", "9".repeat(900_000))),
        ("backslashes", format!("{{{{ '{}", "\\".repeat(900_000))),
        ("blanks", format!("{{{{ {}", " ".repeat(900_000))),
        ("exponent", format!("{{{{ 1e{} }}}}", "9".repeat(90_000))),
    ] {
        drop(run(name, text));
    }
}

#[test]
fn shared_values_are_charged_at_their_full_size() {
    for times in [25, 35, 39] {
        for use_of in [
            "{{ n.x == n.x }}",
            "{{ n.x in [n.x] }}",
            "{{ [n.x, n.x]|sort }}",
            "{{ [n.x, n.x]|unique|list }}",
            "{{ n.x|string }}",
            "{{ n.x ~ 'a' }}",
            "{{ n.x|tojson }}",
            "{{ n.x|tojson(indent=2) }}",
            "{{ n.x|join }}",
            "{{ '%s' % n.x }}",
            "{{ '{}'.format(n.x) }}",
            "{{ n.x }}",
            "{{ n.x|upper }}",
            "{{ [n.x, n.x]|max }}",
            "{{ n.x < [n.x] }}",
            "{{ n.x != n.x }}",
            "{{ [n.x].index(n.x) }}",
            "{{ [n.x].count(n.x) }}",
            "{{ [[n.x], [n.x]]|groupby(0) }}",
            "{{ [n.x]|select('eq', n.x)|list }}",
            "{{ raise_exception(n.x|string) }}",
            "{{ {'a': n.x} == {'a': n.x} }}",
            "{{ n.x is sameas n.x }}",
            "{{ {'a': n.x}|dictsort(by='value') }}",
            "{{ [n.x]|map('string')|list }}",
            "{% for a in [n.x] %}{{ a }}{% endfor %}",
        ] {
            let wrong = use_of.contains("dictsort");
            let name = format!("{times} {use_of}");
            let result = run(&name, doubled(times) + use_of);
            assert!(wrong || result.is_err(), "{name}");
        }
    }
    refused("depth", doubled(90_000));
    refused("depth of maps", "{% set n = namespace(x={}) %}{% for a in range(90000) %}{% set n.x = {'a': n.x} %}{% endfor %}".to_owned());
    refused("depth of tuples", "{% set n = namespace(x=()) %}{% for a in range(90000) %}{% set n.x = (n.x,) %}{% endfor %}".to_owned());
    for times in [30, 60] {
        refused("wide", wide(times));
        refused("repeated", wide(times).replace("n.x + n.x", "n.x * 9"));
        refused("text", wide(times).replace("[1]", "'ab'"));
        refused(
            "joined",
            wide(times)
                .replace("n.x + n.x", "n.x ~ n.x")
                .replace("[1]", "'ab'"),
        );
    }
    refused(
        "straight",
        format!(
            "{{% set x = [1] %}}{}{{{{ x }}}}",
            "{% set x = [x, x] %}".repeat(60)
        ),
    );
    refused(
        "straight sums",
        format!(
            "{{% set x = [1] %}}{}{{{{ x }}}}",
            "{% set x = x + x %}".repeat(60)
        ),
    );
    refused(
        "macros",
        "{% macro f(x, n) %}{% if n %}{{ f([x, x], n - 1) }}{% else %}{{ x == x }}{% endif %}{% endmacro %}{{ f(1, 35) }}".to_owned(),
    );
    refused(
        "blocks",
        "{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% else %}{{ x|length }}{% endif %}{% endmacro %}{{ f('abcdefgh', 34) }}".to_owned(),
    );
}

#[test]
fn work_is_charged_before_it_is_done() {
    for template in [
        r#"{{ "{:>1000000000}".format("x") }}"#,
        r#"{{ "{:<1000000000}".format("x") }}"#,
        r#"{{ "{:^99999999999999999999999}".format("x") }}"#,
        r#"{{ "{:01000000000}".format(1) }}"#,
        r#"{{ "%1000000000s" % "x" }}"#,
        r#"{{ "%-1000000000d" % 1 }}"#,
        r#"{{ "%01000000000d" % -1 }}"#,
        r#"{{ "%1000000000s"|format("x") }}"#,
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x'.ljust(1000000000, 'é') }}",
        "{{ 'x'|center(1000000000) }}",
        "{{ 'x\nx'|indent(1000000000) }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 'x' * 9223372036854775807 * 2 }}",
        "{{ [0] * 1000000000 }}",
        "{{ (0,) * 9223372036854775807 }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ -9223372036854775807 - 2 }}",
        "{{ 9 ** 99 }}",
        "{{ range(0, 9223372036854775807)|list }}",
        "{{ range(-9223372036854775807, 9223372036854775807)|list }}",
        "{{ range(9, 0, 0)|list }}",
        "{{ [1]|batch(1000000000, 0)|list }}",
        "{{ [1]|slice(1000000000)|list }}",
        "{{ [1]|batch(0)|list }}",
        "{{ [1]|slice(-1)|list }}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{{ n.x|upper }}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = n.x == n.x ~ '' %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = 'b' in n.x %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = n.x[999999] %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = n.x|length %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = {n.x: 1} %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = {}.get(n.x) %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = {}[n.x] %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = n.x.find('b') %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = n.x.strip('a') %}{% endfor %}",
        "{% set n = namespace(x='a' * 1000000) %}{% for a in range(90000) %}{% set b = n.x|attr(n.x) %}{% endfor %}",
        "{{ ('a' * 1000000).replace('a', 'a' * 1000000) }}",
        "{{ ('a' * 1000000)|replace('', 'a' * 1000) }}",
        "{{ ('a' * 10000000)|list|length }}",
        "{{ ('a ' * 10000000).split()|length }}",
        "{{ ('a,' * 10000000).split(',')|length }}",
        "{{ ('\n' * 30000000).splitlines()|length }}",
        "{{ ('a' * 1000000).join(('b' * 1000)|list) }}",
        "{{ [('a' * 1000000)] * 1000 }}",
        "{{ ([('a' * 1000000)] * 1000)|join }}",
        "{{ ([('a' * 1000000)] * 1000)|tojson }}",
        "{{ range(90000)|map('string')|map('center', 100000)|list|length }}",
        "{{ range(90000)|unique|list|length }}",
        "{{ range(90000)|list|map('tojson', indent=100)|list|length * range(90000)|sum + ('a' * 60000000)|length }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
        "{% for a in range(99999) %}{% macro f() %}{% endmacro %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ g() }}",
        "{% macro f(x=f()) %}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% call f() %}{{ f() }}{% endcall %}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(20) }}",
        "{{ strftime_now('%B' * 20000000) }}",
        "{{ raise_exception('x' * 60000000) }}",
        "{{ ('%s' * 1000000) % (1,) }}",
        "{{ ('%d' * 1000000)|format(1) }}",
        "{{ ('{}' * 1000000).format(1) }}",
        "{{ '%.1000000000f' % 1 }}{{ 'x' * 70000000 }}",
        "{{ '{:.1000000000f}'.format(1.5) }}{{ 'x' * 70000000 }}",
    ] {
        refused(template, template.to_owned());
    }
    let message = run("raise", "{{ raise_exception('x' * 1000000) }}".to_owned()).unwrap_err();
    assert!(message.len() < 600, "{}", message.len());
}

/// Filters, tests, methods and lookups whose work grows with a string, a list or the scopes that they get: each
/// is paid for by its length, or a loop around it would not end for hours.
#[test]
fn work_is_paid_for_by_the_length_of_what_it_goes_through() {
    for (set, expression) in [
        ("'1' * 300000", "x|int"),
        ("'1' * 300000", "x|int(base=2)"),
        ("'1' * 300000", "x|float"),
        ("'0' * 300000", "x|float"),
        ("' ' * 300000", "x|int(0, 16)"),
        ("'a' * 300000", "x is sequence"),
        ("'a' * 300000", "x is lower"),
        ("'a' * 300000", "''.strip(x)"),
        ("'a' * 300000", "''|trim(x)"),
        ("'a' * 300000", "'b'.lstrip(chars=x)"),
        ("'a' * 300000", "'b'.partition(x)"),
        ("'a' * 300000", "'b'.rpartition(x)"),
        ("'a' * 300000", "'b'.count(x)"),
        ("'a' * 300000", "'b'.split(x)"),
        ("'a' * 300000", "'b'.rsplit(sep=x)"),
        ("'a' * 300000", "'b'.rfind(x)"),
        ("'a' * 300000", "'b'.replace(x, '')"),
        ("'a' * 300000", "'b'|replace(x, '')"),
        ("('b',) * 90000", "'b'.startswith(x)"),
        ("('b',) * 90000", "'b'.endswith(x)"),
    ] {
        let name = format!("{set}: {expression}");
        let set = format!("{{% set n = namespace(x={set}) %}}{{% set x = n.x %}}");
        let template = format!(
            "{set}{{% for a in range(60000) %}}{{% if {expression} %}}{{% endif %}}{{% endfor %}}"
        );
        refused(&name, template);
    }
    let arguments: String = (0..60_000).map(|at| format!("a{at}=1,")).collect();
    refused(
        "places of `format`",
        format!("{{{{ ('{{z}}' * 1000000).format({arguments}z=1) }}}}"),
    );
    let parameters: String = (0..30_000).map(|at| format!("a{at},")).collect();
    let arguments: String = (0..30_000).rev().map(|at| format!("a{at}=1,")).collect();
    refused(
        "arguments of a macro",
        format!(
            "{{% macro f({parameters}z) %}}{{% endmacro %}}{{{{ f({arguments}z=1) }}}}{{{{ f({arguments}z=1) }}}}"
        ),
    );
    let name = "n".repeat(199);
    let scopes: String = (0..90)
        .map(|_| format!("{{% with {name} = 1 %}}"))
        .collect();
    let uses = format!(
        "{{% for a in range(99999) %}}{{{{ {}b }}}}{{% endfor %}}",
        "b or ".repeat(30).replace('b', &"b".repeat(199))
    );
    refused(
        "names behind many scopes",
        scopes + &uses + &"{% endwith %}".repeat(90),
    );
}
