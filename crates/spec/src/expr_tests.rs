use super::*;
use proptest::prelude::*;

fn value(text: &str) -> Result<Quantity, ExprError> {
    Expr::parse(text)?.eval(&|name| match name {
        "sms" => Some(Quantity::plain(132.0)),
        "l2" => Some(Quantity { value: 52428800.0, dim: Dim::Bytes }),
        _ => None,
    })
}

fn plain(text: &str) -> f64 {
    let q = value(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(q.dim, Dim::Plain, "{text}");
    q.value
}

#[test]
fn precedence_and_signs() {
    assert_eq!(plain("1+2*3"), 7.0);
    assert_eq!(plain("(1+2)*3"), 9.0);
    assert_eq!(plain("8/4/2"), 1.0);
    assert_eq!(plain("7-3-2"), 2.0);
    assert_eq!(plain("-2*-3"), 6.0);
    assert_eq!(plain(" 2 * sms "), 264.0);
    assert_eq!(plain("1_000 + 2e3"), 3000.0);
}

#[test]
fn units_are_binary_with_i_and_decimal_without() {
    assert_eq!(value("4GiB"), Ok(Quantity { value: 4294967296.0, dim: Dim::Bytes }));
    assert_eq!(value("4 GB"), Ok(Quantity { value: 4e9, dim: Dim::Bytes }));
    assert_eq!(value("20µs"), value("20us"));
    assert_eq!(value("20μs"), value("0.02ms"));
    assert_eq!(value("50%"), Ok(Quantity { value: 0.5, dim: Dim::Percent }));
    assert_eq!(value("0.45*l2").map(|q| q.to_string()), Ok("22.5MiB".into()));
}

#[test]
fn dimensions_go_through_arithmetic() {
    assert_eq!(plain("50% * sms"), 66.0);
    assert_eq!(plain("sms * 50%"), 66.0);
    assert_eq!(plain("l2 / 1MiB"), 50.0);
    assert_eq!(value("50% * l2").map(|q| q.dim), Ok(Dim::Bytes));
    assert_eq!(value("l2 * 50%").map(|q| q.dim), Ok(Dim::Bytes));
    assert_eq!(value("50% * 50%"), Ok(Quantity { value: 0.25, dim: Dim::Percent }));
    assert_eq!(value("max(0, l2 - 60MiB)"), Ok(Quantity { value: 0.0, dim: Dim::Bytes }));
    for bad in ["l2 + 1", "l2 * l2", "1 / l2", "1ms + 1B", "min(1ms, 2)", "l2 / 1ms"] {
        assert!(value(bad).is_err(), "{bad}");
    }
}

#[test]
fn functions() {
    assert_eq!(plain("floor(sms/16)*8"), 64.0);
    assert_eq!(plain("ceil(1.2) + round(1.5) + max(1, 2, 3) + min(4, 5)"), 11.0);
    assert!(value("min(1)").is_err());
    assert!(value("floor(1, 2)").is_err());
    assert!(value("sqrt(4)").is_err());
}

#[test]
fn errors_name_the_place() {
    let at = |text: &str| value(text).expect_err(text).at;
    assert_eq!(at("1 + fo"), 4..6);
    assert_eq!(at("1 + "), 4..4);
    assert_eq!(at("2sms"), 1..4);
    assert_eq!(at("(1"), 0..2);
    assert_eq!(at("1 2"), 2..3);
    assert_eq!(at("1/(2-2)"), 0..7);
    assert_eq!(value("4gib").expect_err("case").help.as_deref(), Some("did you mean `GiB`?"));
    assert!(value("1e308*10").is_err());
}

#[test]
fn depth_and_length_are_limited() {
    let deep = format!("{}1{}", "(".repeat(400), ")".repeat(400));
    assert!(Expr::parse(&deep).expect_err("deep").message.contains("nested deeper"));
    assert!(Expr::parse(&"-".repeat(500)).is_err());
    assert!(Expr::parse(&format!("1{}", "+1".repeat(499))).is_ok());
    assert!(Expr::parse(&"1".repeat(MAX_LEN + 1)).is_err());
}

#[test]
fn quantities_print_short() {
    let show = |value, dim| Quantity { value, dim }.to_string();
    assert_eq!(show(3.0, Dim::Plain), "3");
    assert_eq!(show(0.08, Dim::Plain), "0.08");
    assert_eq!(show(1.0 / 3.0, Dim::Plain), "0.333333");
    assert_eq!(show(0.0625, Dim::Percent), "6.25");
    assert_eq!(show(20_000.0, Dim::Time), "20us");
    assert_eq!(show(512.0, Dim::Bytes), "512B");
    assert_eq!(show(0.0, Dim::Bytes), "0B");
    assert_eq!(show(1e300, Dim::Plain).parse::<f64>(), Ok(1e300));
}

/// A random tree, its text and its value by Rust's own arithmetic.
fn arithmetic() -> impl Strategy<Value = (String, f64)> {
    let leaf = (1u32..1000).prop_map(|n| (n.to_string(), f64::from(n)));
    leaf.prop_recursive(5, 40, 2, |inner| {
        (inner.clone(), inner, 0..6usize).prop_map(|((a, x), (b, y), op)| match op {
            0 => (format!("({a} + {b})"), x + y),
            1 => (format!("({a}-{b})"), x - y),
            2 => (format!("({a}*{b})"), x * y),
            3 => (format!("min({a}, {b})"), x.min(y)),
            4 => (format!("max( {a},{b} )"), x.max(y)),
            _ => (format!("-({a})"), -x),
        })
    })
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_without_panic(text in ".{0,200}") {
        if let Err(e) = value(&text) {
            prop_assert!(e.at.start <= e.at.end && e.at.end <= text.len(), "{e:?}");
            prop_assert!(text.is_char_boundary(e.at.start) && text.is_char_boundary(e.at.end), "{e:?}");
        }
    }

    #[test]
    fn likely_text_parses_or_fails_without_panic(text in "[0-9a-z.µ%+*/()eE, _-]{0,60}") {
        if let Err(e) = value(&text) {
            prop_assert!(text.get(e.at.clone()).is_some(), "{e:?}");
        }
    }

    #[test]
    fn arithmetic_agrees_with_rust((text, expected) in arithmetic()) {
        prop_assert_eq!(value(&text), Ok(Quantity::plain(expected)));
    }

    #[test]
    fn any_number_is_read_back(x in 0.0f64..1e18) {
        prop_assert_eq!(plain(&format!("{x}")), x);
        prop_assert_eq!(plain(&format!("{x:e}")), x);
    }
}
