//! Our statistics against SciPy's on fixed data; `fixtures/make.py` writes the expected values.

use cotenant_stats::quantile::quantile;
use cotenant_stats::special::{kolmogorov_sf, student_two_sided};
use cotenant_stats::{
    Bandwidth, Bootstrap, Grouped, Kde, Method, bca_interval, dependence, hodges_lehmann_interval,
    hodges_lehmann_one_sample, hodges_lehmann_shift, kolmogorov_smirnov, mann_whitney, median_interval,
    normal, percentile_interval, sign_test, welch, wilcoxon_signed_rank,
};
use serde_json::Value;

fn fixtures() -> Value {
    serde_json::from_str(include_str!("fixtures/scipy.json")).expect("fixtures are JSON")
}

fn floats(v: &Value) -> Vec<f64> {
    v.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn cases<'a>(all: &'a Value, name: &str) -> &'a Vec<Value> {
    let cases = all[name].as_array().expect("cases");
    assert!(cases.len() >= 4, "{name} has cases");
    cases
}

#[track_caller]
fn close(ours: f64, theirs: &Value, what: &str) {
    let theirs = theirs.as_f64().expect("a number");
    let scale = theirs.abs().max(1e-300);
    assert!((ours - theirs).abs() <= 1e-9 * scale, "{what}: ours {ours:e}, SciPy {theirs:e}");
}

#[test]
fn normal_distribution() {
    let all = fixtures();
    let n = &all["normal"];
    for (i, z) in floats(&n["z"]).into_iter().enumerate() {
        close(normal::cdf(z), &n["cdf"][i], &format!("cdf({z})"));
        close(normal::sf(z), &n["sf"][i], &format!("sf({z})"));
    }
    for (i, p) in floats(&n["p"]).into_iter().enumerate() {
        close(normal::quantile(p), &n["quantile"][i], &format!("quantile({p})"));
    }
}

#[test]
fn quantiles() {
    let all = fixtures();
    for case in cases(&all, "quantile") {
        let xs = floats(&case["xs"]);
        for (i, p) in floats(&case["p"]).into_iter().enumerate() {
            close(quantile(&xs, p).expect("valid"), &case["q"][i], &format!("n {} p {p}", xs.len()));
        }
    }
}

#[test]
fn order_statistic_intervals() {
    let all = fixtures();
    for case in cases(&all, "median_interval") {
        let xs = floats(&case["xs"]);
        let m = median_interval(&xs).expect("valid");
        let what = format!("n {}", xs.len());
        assert_eq!(m.interval.method, Method::OrderStatistics);
        close(m.value, &case["median"], &what);
        close(m.interval.low, &case["low"], &what);
        close(m.interval.high, &case["high"], &what);
    }
}

#[test]
fn bootstrap_intervals_of_a_given_distribution() {
    let all = fixtures();
    for case in cases(&all, "bootstrap") {
        let (xs, distribution) = (floats(&case["xs"]), floats(&case["distribution"]));
        let statistic = |v: &[f64]| match case["statistic"].as_str() {
            Some("mean") => v.iter().sum::<f64>() / v.len() as f64,
            _ => quantile(v, 0.5).expect("valid"),
        };
        let bca = bca_interval(&distribution, &xs, statistic, 0.95).expect("valid");
        assert_eq!(bca.method, Method::BootstrapBca);
        close(bca.low, &case["bca"][0], "BCa low");
        close(bca.high, &case["bca"][1], "BCa high");
        let plain = percentile_interval(&distribution, 0.95).expect("valid");
        close(plain.low, &case["percentile"][0], "percentile low");
        close(plain.high, &case["percentile"][1], "percentile high");
    }
}

#[test]
fn mann_whitney_and_shift() {
    let all = fixtures();
    for case in cases(&all, "mann_whitney") {
        let (a, b) = (floats(&case["a"]), floats(&case["b"]));
        let t = mann_whitney(&a, &b).expect("valid");
        let what = format!("n {} {}", a.len(), b.len());
        assert_eq!(Some(t.exact), case["exact"].as_bool(), "{what}");
        close(t.statistic, &case["u"], &what);
        close(t.p, &case["p"], &what);
        close(hodges_lehmann_shift(&a, &b).expect("valid"), &case["shift"], &what);
    }
}

#[test]
fn paired_tests() {
    let all = fixtures();
    for case in cases(&all, "paired") {
        let (a, b) = (floats(&case["a"]), floats(&case["b"]));
        let what = format!("n {}", a.len());
        let w = wilcoxon_signed_rank(&a, &b).expect("valid");
        assert_eq!(Some(w.exact), case["exact"].as_bool(), "{what}");
        close(w.statistic, &case["plus"], &what);
        close(w.p, &case["p"], &what);
        let s = sign_test(&a, &b).expect("valid");
        close(s.statistic, &case["positive"], &what);
        close(s.p, &case["sign_p"], &what);
        let d: Vec<f64> = a.iter().zip(&b).map(|(x, y)| x - y).collect();
        close(hodges_lehmann_one_sample(&d).expect("valid"), &case["pseudo_median"], &what);
    }
}

#[test]
fn student_and_kolmogorov_distributions() {
    let all = fixtures();
    let s = &all["student"];
    let (t, df) = (floats(&s["t"]), floats(&s["df"]));
    assert!(t.len() > 100);
    for i in 0..t.len() {
        close(student_two_sided(t[i], df[i]), &s["p"][i], &format!("t {} df {}", t[i], df[i]));
    }
    let k = &all["kolmogorov"];
    for (i, z) in floats(&k["z"]).into_iter().enumerate() {
        close(kolmogorov_sf(z), &k["sf"][i], &format!("z {z}"));
    }
}

#[test]
fn welch_t_test() {
    let all = fixtures();
    for case in cases(&all, "welch") {
        let (a, b) = (floats(&case["a"]), floats(&case["b"]));
        let w = welch(&a, &b).expect("valid");
        let what = format!("n {} {}", a.len(), b.len());
        close(w.t, &case["t"], &what);
        close(w.df, &case["df"], &what);
        close(w.p, &case["p"], &what);
    }
}

#[test]
fn kolmogorov_smirnov_test() {
    let all = fixtures();
    for case in cases(&all, "kolmogorov_smirnov") {
        let (a, b) = (floats(&case["a"]), floats(&case["b"]));
        let t = kolmogorov_smirnov(&a, &b).expect("valid");
        let what = format!("n {} {}", a.len(), b.len());
        assert!(t.exact, "{what}");
        close(t.statistic, &case["d"], &what);
        close(t.p, &case["p"], &what);
    }
}

#[test]
fn shifts_with_intervals() {
    let all = fixtures();
    for case in cases(&all, "shift_interval") {
        let (a, b) = (floats(&case["a"]), floats(&case["b"]));
        let s = hodges_lehmann_interval(&a, &b, case["level"].as_f64().expect("a level")).expect("valid");
        let what = format!("n {} {}", a.len(), b.len());
        close(s.value, &case["shift"], &what);
        close(s.interval.low, &case["low"], &what);
        close(s.interval.high, &case["high"], &what);
        close(s.interval.level, &case["reached"], &what);
    }
}

#[test]
fn densities() {
    let all = fixtures();
    for case in cases(&all, "kde") {
        let xs = floats(&case["xs"]);
        let scott = Kde::new(&xs, Bandwidth::Scott).expect("valid");
        let silverman = Kde::new(&xs, Bandwidth::Silverman).expect("valid");
        close(scott.width(), &case["width"], "bandwidth");
        for (i, x) in floats(&case["x"]).into_iter().enumerate() {
            for (ours, theirs) in [(&scott, &case["scott"][i]), (&silverman, &case["silverman"][i])] {
                // Kernels beyond the reach are left out: nothing is lost down to 1e-25.
                if theirs.as_f64().expect("a density") > 1e-25 {
                    close(ours.at(x), theirs, &format!("n {} x {x}", xs.len()));
                } else {
                    assert!(ours.at(x) <= 1e-25);
                }
            }
        }
    }
}

#[test]
fn descriptions() {
    let all = fixtures();
    for case in cases(&all, "describe") {
        let xs = floats(&case["xs"]);
        let d = Grouped::new(&[&xs]).expect("valid").describe(&Bootstrap::default()).expect("valid");
        let what = format!("n {}", xs.len());
        for (ours, name) in
            [(d.mean.value, "mean"), (d.deviation.value, "std"), (d.min, "min"), (d.max, "max")]
        {
            close(ours, &case[name], &format!("{what} {name}"));
        }
        for (i, q) in [d.p50, d.p90, d.p95, d.p99].into_iter().enumerate() {
            close(q.value, &case["q"][i], &what);
        }
        close(dependence(&[&xs]).expect("valid").lag1, &case["lag1"], &format!("{what} lag 1"));
    }
}
