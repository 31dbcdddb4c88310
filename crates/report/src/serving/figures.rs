//! Figures of one load: how its times are distributed, and how it went.

use super::sample::{Bound, Sample};
use super::summary::{E2E, TPOT, TTFT, gaps_of, summarize_both, times};
use super::window::Survey;
use crate::figure::{Axis, CurveFigure, CurvePanel, Figure, Frame, PlainCurve};
use crate::svg::Embed;
use cotenant_stats::Gaps;
use cotenant_store::serving::{LoadManifest, LoadSummary, RequestRecord, Slo};
use cotenant_store::{Requests, StoreError, StoredLoad};

/// Steps of a distribution: more would not be seen.
const POINTS: usize = 200;
/// Most stretches of time, likewise.
const MOST_STRETCHES: usize = 200;

/// Title, badge and foot of every figure of a load.
pub fn load_frame(m: &LoadManifest, title: String) -> Frame {
    let revision: String = m.provenance.git_revision.chars().take(12).collect();
    Frame {
        title,
        badge: m.simulated.then(|| "SIMULATED".to_owned()),
        foot: format!(
            "{} on {} · cotenant {} ({revision}) · {}",
            m.model, m.url, m.provenance.version, m.provenance.started
        ),
    }
}

/// Summary of a stored load, and its figures by file name: empirical distributions of the times of the window's requests and of the
/// gaps between chunks, and the load over time.
///
/// # Errors
/// Those of walking over the requests.
pub fn derive_load<R: Requests>(
    stored: &StoredLoad<R>,
) -> Result<(LoadSummary, Vec<(String, String)>), StoreError> {
    let (survey, summary) = summarize_both(stored, Bound::default())?;
    let mut out = Vec::new();
    let names = ["figure-1-times.svg", "figure-2-over-time.svg"];
    for (name, figure) in names.into_iter().zip(draw(stored, &survey)?) {
        if !figure.panels.is_empty() {
            out.push((name.to_owned(), Figure::Curves(figure).svg(Embed::Standalone)));
        }
    }
    Ok((summary, out))
}

/// The figures of [`derive_load`], in another walk.
pub(super) fn draw<R: Requests>(
    stored: &StoredLoad<R>,
    survey: &Survey,
) -> Result<[CurveFigure; 2], StoreError> {
    let mut course = Course::new(survey);
    stored.requests.each(&mut |r| course.add(r))?;
    Ok([course.distributions(&stored.manifest, &gaps_of(stored)), course.over_time(&stored.manifest)])
}

fn axis(label: &str, log: bool, zero: bool) -> Axis {
    Axis { label: label.to_owned(), log, zero }
}

/// The times that are drawn, by their place in [`times`](super::summary::times).
const DRAWN: [usize; 3] = [TTFT, TPOT, E2E];

/// What figures are drawn of, in one walk: equal stretches from the start to the last end.
struct Course<'s> {
    survey: &'s Survey,
    /// Of one stretch, ns.
    length: u64,
    /// Requests in flight.
    busy: Vec<f64>,
    /// Output tokens per second.
    tokens: Vec<f64>,
    /// Times to first token, ms.
    first: Vec<Sample>,
    /// Times of requests that count, ms.
    times: [Sample; DRAWN.len()],
}

impl<'s> Course<'s> {
    fn new(survey: &'s Survey) -> Course<'s> {
        // Some tens of requests a stretch, but not more stretches than can be seen.
        let stretches =
            usize::try_from(survey.requests / 4).map_or(MOST_STRETCHES, |n| n.clamp(10, MOST_STRETCHES));
        let sample = || Sample::new(survey.each);
        Course {
            survey,
            length: (survey.end_ns / stretches as u64 + 1).max(1),
            busy: vec![0.0; stretches],
            tokens: vec![0.0; stretches],
            first: vec![sample(); stretches],
            times: [sample(), sample(), sample()],
        }
    }

    fn add(&mut self, r: &RequestRecord) {
        if self.survey.counts(r) {
            let all = times(r);
            for (sample, of) in self.times.iter_mut().zip(DRAWN) {
                all[of].into_iter().for_each(|ms| sample.push(ms));
            }
        }
        let Some(sent) = r.sent_ns else { return };
        let length = self.length;
        let whole = r.end_ns.saturating_sub(sent) as f64 / length as f64;
        spread(sent, r.end_ns, length, &mut self.busy, whole);
        if let (Some(from), Some(to), true) = (r.first_content_ns, r.last_content_ns, r.ok()) {
            let per_s = f64::from(r.output_tokens) * 1e9 / length as f64;
            spread(from, to, length, &mut self.tokens, per_s);
            if let Some(all) = self.first.get_mut((r.intended_ns / length) as usize) {
                all.push(from.saturating_sub(r.intended_ns) as f64 / 1e6);
            }
        }
    }

    fn distributions(&self, m: &LoadManifest, gaps: &Gaps) -> CurveFigure {
        let limit = |f: fn(&Slo) -> Option<f64>| {
            m.slo.as_ref().and_then(f).map(|ms| (ms, "limit".to_owned())).into_iter().collect::<Vec<_>>()
        };
        let window = &self.survey.window;
        let itl = Sample::Counted(gaps.by_chunk(window.from_ns, window.to_ns));
        let [ttft, tpot, e2e] = &self.times;
        let (of_requests, of_gaps) = ("share of requests", "share of gaps");
        let rows = [
            (ttft, of_requests, "time to first token, from the intended time, ms", limit(|s| s.ttft_ms)),
            (tpot, of_requests, "time per output token, ms", limit(|s| s.tpot_ms)),
            (&itl, of_gaps, "time between chunks with content, ms", Vec::new()),
            (e2e, of_requests, "end to end, from the intended time, ms", limit(|s| s.e2e_ms)),
        ];
        let shares = || (0..=POINTS).map(|i| i as f64 / POINTS as f64);
        let panels = rows.into_iter().filter_map(|(sample, share, label, guides)| {
            let points = sample.quantiles(shares())?.into_iter().zip(shares()).collect();
            Some(CurvePanel {
                x: axis(label, false, false),
                y: axis(share, false, true),
                curves: vec![PlainCurve { name: String::new(), colour: 0, points }],
                guides,
            })
        });
        CurveFigure {
            frame: load_frame(m, "Distributions of the times of requests and chunks".into()),
            panels: panels.collect(),
        }
    }

    /// Requests in flight, output tokens per second and time to first token over time.
    fn over_time(&self, m: &LoadManifest) -> CurveFigure {
        let frame = load_frame(m, "The load over time".into());
        if self.survey.end_ns == 0 {
            return CurveFigure { frame, panels: Vec::new() };
        }
        let middle = |i: usize| (i as f64 + 0.5) * self.length as f64 / 1e9;
        let curve = |values: &[f64]| PlainCurve {
            name: String::new(),
            colour: 0,
            points: values.iter().enumerate().map(|(i, v)| (middle(i), *v)).collect(),
        };
        let of_first = |share: f64, name: &str, colour: usize| {
            let at = |(i, all): (usize, &Sample)| {
                Some((middle(i), *all.quantiles(std::iter::once(share))?.first()?))
            };
            let points = self.first.iter().enumerate().filter_map(at).collect();
            PlainCurve { name: name.to_owned(), colour, points }
        };
        let guides = || {
            let at = |ns: u64, label: &str| (ns as f64 / 1e9, label.to_owned());
            let (s, window) = (self.survey, &self.survey.window);
            let mut all = Vec::new();
            if window.from_ns > s.first_ns {
                all.push(at(window.from_ns, "counts from here"));
            }
            if window.to_ns < s.last_ns {
                all.push(at(window.to_ns, "to here"));
            }
            all
        };
        let x = || axis("time since the start, s", false, true);
        let panel = |label: &str, curves| CurvePanel {
            x: x(),
            y: axis(label, false, true),
            curves,
            guides: guides(),
        };
        let panels = vec![
            panel("requests in flight", vec![curve(&self.busy)]),
            panel("output tokens per s", vec![curve(&self.tokens)]),
            panel(
                "TTFT, ms",
                vec![of_first(0.5, "median of a stretch", 0), of_first(1.0, "longest of a stretch", 1)],
            ),
        ];
        CurveFigure { frame, panels }
    }
}

/// Adds an amount to the stretches that lie between two moments, to each what its part of the time is.
fn spread(from: u64, to: u64, length: u64, out: &mut [f64], amount: f64) {
    let last = out.len().saturating_sub(1);
    let (a, b) = ((from / length) as usize, ((to / length) as usize).min(last));
    if to <= from {
        if let Some(v) = out.get_mut(a) {
            *v += amount;
        }
        return;
    }
    for (i, v) in out.iter_mut().enumerate().take(b + 1).skip(a) {
        let (start, end) = (i as u64 * length, (i as u64 + 1) * length);
        let part = to.min(end).saturating_sub(from.max(start)) as f64 / (to - from) as f64;
        *v += amount * part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_spread_by_time_and_none_is_lost() {
        let mut out = vec![0.0; 4];
        spread(50, 250, 100, &mut out, 2.0);
        assert_eq!(out, [0.5, 1.0, 0.5, 0.0]);
        spread(399, 399, 100, &mut out, 1.0);
        assert_eq!(out[3], 1.0);
    }
}
