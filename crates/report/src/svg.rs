//! SVG primitives: escaped text, numbers that are always finite and always printed alike, and the style.
//!
//! A figure has no script, no external reference and no `id`, so that any number of them fit into one page.
//! Colours are CSS variables with a light and a dark set; a standalone file embeds them.

use std::fmt::Write as _;

/// Where a figure will live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embed {
    /// In a page that has the style already.
    Inline,
    /// A file of its own: embeds the style.
    Standalone,
}

/// The colours and classes of figures, shared by pages and standalone files.
pub const FIGURE_STYLE: &str = include_str!("../templates/figure.css");

/// Number of series colours before they repeat.
pub const COLOURS: usize = 6;

/// Escapes text for SVG and HTML, element content and quoted attributes alike. Control characters that XML
/// does not allow become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate: at most two decimals, no trailing zeros, zero for what is not finite.
pub fn num(x: f64) -> String {
    if !x.is_finite() {
        return "0".to_owned();
    }
    let mut s = format!("{:.2}", x.clamp(-1e7, 1e7));
    if s.contains('.') {
        s.truncate(s.trim_end_matches('0').trim_end_matches('.').len());
    }
    if s == "-0" { "0".to_owned() } else { s }
}

/// Horizontal anchor of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Text begins at x.
    Start,
    /// Text is centred on x.
    Middle,
    /// Text ends at x.
    End,
}

/// Shape of a data marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Disc.
    Circle,
    /// Square.
    Square,
    /// Square on its tip.
    Diamond,
    /// Triangle, tip up.
    Triangle,
}

impl Shape {
    /// The shape of the `i`-th series.
    pub fn nth(i: usize) -> Self {
        [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Diamond][i % 4]
    }

    /// Outline about a centre.
    fn path(self, (x, y): (f64, f64), r: f64) -> String {
        match self {
            Shape::Circle => format!(
                "M{} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",
                num(x - r),
                num(y),
                r = num(r),
                d = num(2.0 * r)
            ),
            Shape::Square => {
                let s = num(1.8 * r);
                format!("M{} {}h{s}v{s}h-{s}z", num(x - 0.9 * r), num(y - 0.9 * r))
            }
            Shape::Diamond => {
                let s = num(1.25 * r);
                format!("M{} {}l{s} {s}l-{s} {s}l-{s} -{s}z", num(x), num(y - 1.25 * r))
            }
            Shape::Triangle => {
                let (a, b) = (num(1.15 * r), num(2.1 * r));
                format!("M{} {}l{a} {b}h-{}z", num(x), num(y - 1.25 * r), num(2.3 * r))
            }
        }
    }
}

/// An SVG document being written.
#[derive(Debug, Clone)]
pub struct Svg {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Svg {
    /// An empty drawing of `width` by `height` units, described by `label` for readers who do not see it.
    pub fn new(width: f64, height: f64, label: &str) -> Self {
        Svg { width, height, label: escape(label), body: String::new() }
    }

    /// Closes the drawing.
    pub fn finish(self, embed: Embed) -> String {
        let (w, h) = (num(self.width), num(self.height));
        let mut out = String::with_capacity(self.body.len() + 512);
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"ct-figure\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
             aria-label=\"{}\"",
            self.label
        );
        if embed == Embed::Standalone {
            let _ = write!(out, " width=\"{w}\" height=\"{h}\">\n<style>\n{FIGURE_STYLE}</style>\n");
            let _ = writeln!(out, "<rect class=\"ct-paper\" width=\"{w}\" height=\"{h}\"/>");
        } else {
            out.push_str(">\n");
        }
        out.push_str(&self.body);
        out.push_str("</svg>\n");
        out
    }

    /// Opens a group with CSS classes and a tooltip (empty: none). Close it with [`Svg::end`].
    pub fn begin(&mut self, class: &str, tooltip: &str) {
        let _ = write!(self.body, "<g class=\"{}\">", escape(class));
        if !tooltip.is_empty() {
            let _ = write!(self.body, "<title>{}</title>", escape(tooltip));
        }
        self.body.push('\n');
    }

    /// Closes a group.
    pub fn end(&mut self) {
        self.body.push_str("</g>\n");
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<path class=\"{}\" d=\"M{} {}L{} {}\"/>",
            escape(class),
            num(x1),
            num(y1),
            num(x2),
            num(y2)
        );
    }

    /// A line through points, or an area if `close`.
    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)], close: bool) {
        if points.is_empty() {
            return;
        }
        let _ = write!(self.body, "<path class=\"{}\" d=\"", escape(class));
        for (i, (x, y)) in points.iter().enumerate() {
            let _ = write!(self.body, "{}{} {}", if i == 0 { 'M' } else { 'L' }, num(*x), num(*y));
        }
        self.body.push_str(if close { "Z\"/>\n" } else { "\"/>\n" });
    }

    /// Horizontal bars `(x, width)` of one height as a single path.
    pub fn spans(&mut self, class: &str, y: f64, height: f64, spans: &[(f64, f64)], tooltip: &str) {
        if spans.is_empty() {
            return;
        }
        let _ = write!(self.body, "<path class=\"{}\" d=\"", escape(class));
        for (x, w) in spans {
            let (w, h) = (num(*w), num(height));
            let _ = write!(self.body, "M{} {}h{w}v{h}h-{w}z", num(*x), num(y));
        }
        let _ = writeln!(self.body, "\"><title>{}</title></path>", escape(tooltip));
    }

    /// A rectangle; negative sizes are drawn as zero.
    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64), tooltip: &str) {
        self.rect_with(class, (x, y), (w, h), "", tooltip);
    }

    /// A rectangle with a fill opacity from 0 to 1.
    pub fn shade(&mut self, class: &str, at: (f64, f64), size: (f64, f64), opacity: f64, tooltip: &str) {
        let opacity = if opacity.is_finite() { opacity.clamp(0.0, 1.0) } else { 0.0 };
        self.rect_with(class, at, size, &format!(" fill-opacity=\"{}\"", num(opacity)), tooltip);
    }

    fn rect_with(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64), extra: &str, tooltip: &str) {
        let _ = write!(
            self.body,
            "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{extra}",
            escape(class),
            num(x),
            num(y),
            num(w.max(0.0)),
            num(h.max(0.0))
        );
        if tooltip.is_empty() {
            self.body.push_str("/>\n");
        } else {
            let _ = writeln!(self.body, "><title>{}</title></rect>", escape(tooltip));
        }
    }

    /// Text at its baseline.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        self.text_with(class, (x, y), anchor, "", text);
    }

    /// Text turned by 90° counter-clockwise about its anchor.
    pub fn vertical_text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let turn = format!(" transform=\"rotate(-90 {} {})\"", num(x), num(y));
        self.text_with(class, (x, y), Anchor::Middle, &turn, text);
    }

    fn text_with(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, extra: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (class, text) = (escape(class), escape(text));
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\"{anchor}{extra}>{text}</text>",
            num(x),
            num(y)
        );
    }

    /// A data marker of radius `r`.
    pub fn marker(&mut self, class: &str, shape: Shape, at: (f64, f64), r: f64, tooltip: &str) {
        let (class, d) = (escape(class), shape.path(at, r));
        if tooltip.is_empty() {
            let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{d}\"/>");
        } else {
            let _ = writeln!(
                self.body,
                "<path class=\"{class}\" d=\"{d}\"><title>{}</title></path>",
                escape(tooltip)
            );
        }
    }

    /// Many data markers as a single path.
    pub fn markers(&mut self, class: &str, shape: Shape, at: &[(f64, f64)], r: f64, tooltip: &str) {
        if at.is_empty() {
            return;
        }
        let _ = write!(self.body, "<path class=\"{}\" d=\"", escape(class));
        for point in at {
            self.body.push_str(&shape.path(*point, r));
        }
        let _ = writeln!(self.body, "\"><title>{}</title></path>", escape(tooltip));
    }
}

/// Approximate width of `text` at `size` units, for layout: SVG cannot measure. Errs on the wide side.
pub fn text_width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '|' | '\'' | '!' | ' ' | 't' | 'f' | 'r' | '('
            | ')' | '[' | ']' => 0.33,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.9,
            c if c.is_ascii_uppercase() => 0.68,
            c if c.is_ascii() => 0.56,
            '\u{300}'..='\u{36f}' => 0.0,
            '\u{1100}'.. => 1.0,
            _ => 0.65,
        })
        .sum();
    ems * size
}

/// `text` cut to about `width` units at `size`, with an ellipsis where something was cut.
pub fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if text_width(&out, size) > width - 0.7 * size {
            out.pop();
            break;
        }
    }
    out.push('…');
    out
}

/// Breaks `text` at spaces, or after `-`, `_`, `/`, `,`, into at most `lines` lines of about `width` units.
pub fn wrap(text: &str, size: f64, width: f64, lines: usize) -> Vec<String> {
    let mut out: Vec<String> = vec![String::new()];
    for word in text.split_inclusive([' ', '-', '_', '/', ',']) {
        let current = out.last().map_or("", String::as_str);
        let joined = text_width(current, size) + text_width(word.trim_end(), size);
        if !current.is_empty() && joined > width && out.len() < lines {
            out.push(String::new());
        }
        if let Some(line) = out.last_mut() {
            line.push_str(word);
        }
    }
    out.iter().map(|l| fit(l.trim_end(), size, width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_escaped_everywhere() {
        let evil = "</title><script>alert('x')</script>&\"\u{0}";
        let mut s = Svg::new(10.0, 10.0, evil);
        s.begin(evil, evil);
        s.text(evil, (0.0, 0.0), Anchor::Start, evil);
        s.rect("a", (0.0, 0.0), (1.0, 1.0), evil);
        s.end();
        let out = s.finish(Embed::Inline);
        assert!(!out.contains("<script") && !out.contains('\u{0}'), "{out}");
        assert_eq!(out.matches('"').count() % 2, 0);
    }

    #[test]
    fn coordinates_are_short_and_finite() {
        assert_eq!(num(1.0), "1");
        assert_eq!(num(1.005), "1");
        assert_eq!(num(-0.001), "0");
        assert_eq!(num(120.50), "120.5");
        assert_eq!(num(100.0), "100");
        assert_eq!(num(f64::NAN), "0");
        assert_eq!(num(f64::INFINITY), "0");
        assert_eq!(num(1e300), "10000000");
    }

    #[test]
    fn long_text_is_cut_or_broken() {
        assert_eq!(fit("short", 10.0, 100.0), "short");
        let cut = fit(&"x".repeat(100), 10.0, 60.0);
        assert!(cut.ends_with('…') && text_width(&cut, 10.0) < 70.0);
        assert_eq!(wrap("copy beside compute", 10.0, 60.0, 3), ["copy beside", "compute"]);
        assert_eq!(wrap("", 10.0, 60.0, 3), [""]);
        assert_eq!(wrap("a b c d e f", 10.0, 12.0, 2).len(), 2);
    }
}
