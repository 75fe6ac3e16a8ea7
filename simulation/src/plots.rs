//! Draws panels beside each other as SVG that is readable by light and by dark, whatever page it stands in: it
//! brings its own ground, and follows what the reader prefers.

use std::fmt::Display;

use anyhow::{Result, anyhow};
use plotters::{
    chart::ChartContext,
    coord::{Shift, types::RangedCoordf64},
    element::{Circle, Cross, PathElement, Text, TriangleMarker},
    prelude::{
        Cartesian2d, ChartBuilder, Color as _, DashedLineSeries, DrawingArea, IntoDrawingArea as _,
        IntoFont as _, LineSeries, RGBColor, SVGBackend, ShapeStyle, TextStyle,
    },
};

use crate::{
    scheme::Scheme,
    series::{Panel, Series},
};

/// Of a whole plot, in pixels.
const SIZE: (u32, u32) = (860, 400);
/// The length of a line in the legend, the width of an entry and where the first one begins, in pixels.
const SAMPLE: i32 = 34;
const ENTRY: i32 = 170;
const MARGIN: i32 = 68;
/// Half the size of a point.
const MARK: i32 = 4;
/// Vertical lines of an axis that is not made of steps.
const MINUTES: usize = 7;

const GROUND: RGBColor = RGBColor(0xfd, 0xfd, 0xfc);
const INK: RGBColor = RGBColor(0x24, 0x27, 0x2b);
const GRID: RGBColor = RGBColor(0xe2, 0xe3, 0xe5);
const ORANGE: RGBColor = RGBColor(0xc4, 0x4e, 0x00);
const BLUE: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const GREEN: RGBColor = RGBColor(0x0b, 0x84, 0x57);
const GREY: RGBColor = RGBColor(0x73, 0x78, 0x7f);

/// What each colour is by dark.
const DARK: [(RGBColor, &str); 7] = [
    (GROUND, "#17191d"),
    (INK, "#e6e7ea"),
    (GRID, "#33373d"),
    (ORANGE, "#ff9447"),
    (BLUE, "#66b5f5"),
    (GREEN, "#43d19b"),
    (GREY, "#a2a8b0"),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'c, 'a> = ChartContext<'c, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws panels beside each other below a title.
pub fn draw(title: &str, panels: &[Panel]) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&GROUND).map_err(failed)?;
        let area = area.titled(title, text(19)).map_err(failed)?;
        let (row, area) = area.split_vertically(24);
        if let Some(panel) = panels.first() {
            draw_legend(&row, &panel.series, panel.steps)?;
        }
        for (panel, part) in panels.iter().zip(area.split_evenly((1, panels.len()))) {
            draw_panel(&part, panel)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(by_dark(&svg, title))
}

/// Draws one of them with its axes and its series.
fn draw_panel(area: &Area<'_>, panel: &Panel) -> Result<()> {
    // What every series has, for they vary the same.
    let places: Vec<f64> =
        panel.series.iter().take(1).flat_map(|series| &series.points).map(|(x, _)| *x).collect();
    let last = places.last().copied().unwrap_or(1.0);
    let range = if panel.steps { -0.3..real(places.len()) - 0.7 } else { 0.0..last };
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, text(15))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(range, panel.from..panel.to)
        .map_err(failed)?;
    // Of steps, what stands there; between them nothing.
    let below = |x: &f64| match (0..).zip(&places).find(|(step, _)| near(real(*step), *x)) {
        _ if !panel.steps => format!("{x:.0}"),
        Some((_, place)) => format!("{place:.0}"),
        None => String::new(),
    };
    let digits = if panel.to - panel.from < 2.0 { 2 } else { 0 };
    chart
        .configure_mesh()
        .x_desc(panel.axes[0])
        .y_desc(panel.axes[1])
        .x_labels(if panel.steps { places.len() } else { MINUTES })
        .y_labels(6)
        .x_label_formatter(&below)
        .y_label_formatter(&|y| format!("{y:.digits$}"))
        .axis_style(GREY)
        .bold_line_style(GRID)
        .light_line_style(GROUND.mix(0.0))
        .label_style(text(13))
        .axis_desc_style(text(13))
        .draw()
        .map_err(failed)?;
    for series in &panel.series {
        draw_series(&mut chart, series, panel.steps)?;
    }
    Ok(())
}

/// Draws a line, and its points where they are few.
fn draw_series(chart: &mut Chart<'_, '_>, series: &Series, steps: bool) -> Result<()> {
    let at = |(step, (x, y)): (usize, &(f64, f64))| (if steps { real(step) } else { *x }, *y);
    let points: Vec<_> = series.points.iter().enumerate().map(at).collect();
    let scheme = series.scheme;
    let style = if steps { style(scheme) } else { style(scheme).stroke_width(2) };
    let drawn = match dashes(scheme) {
        Some((dash, gap)) => {
            chart.draw_series(DashedLineSeries::new(points.clone(), dash, gap, style))
        }
        None => chart.draw_series(LineSeries::new(points.clone(), style)),
    };
    drawn.map_err(failed)?;
    let points = points.into_iter().filter(|_| steps);
    // Each scheme's points have a shape of their own.
    let marked = match scheme {
        Some(Scheme::RoundRobin) => chart.draw_series(points.map(|at| Cross::new(at, MARK, style))),
        Some(Scheme::Modulo) => {
            chart.draw_series(points.map(|at| TriangleMarker::new(at, MARK, style)))
        }
        Some(Scheme::Maglev) => chart.draw_series(points.map(|at| Circle::new(at, MARK, style))),
        None => return Ok(()),
    };
    marked.map_err(failed).map(drop)
}

/// The line of a scheme.
fn style(scheme: Option<Scheme>) -> ShapeStyle {
    let width = if scheme == Some(Scheme::Maglev) { 3 } else { 2 };
    ShapeStyle { color: colour(scheme).to_rgba(), filled: true, stroke_width: width }
}

fn colour(scheme: Option<Scheme>) -> RGBColor {
    match scheme {
        Some(Scheme::RoundRobin) => ORANGE,
        Some(Scheme::Modulo) => BLUE,
        Some(Scheme::Maglev) => GREEN,
        None => GREY,
    }
}

/// The lengths of its dashes and gaps, in pixels: lines are told apart not by colours alone.
const fn dashes(scheme: Option<Scheme>) -> Option<(i32, i32)> {
    match scheme {
        Some(Scheme::RoundRobin) => Some((2, 4)),
        Some(Scheme::Modulo) => Some((9, 4)),
        Some(Scheme::Maglev) => None,
        None => Some((3, 3)),
    }
}

/// Draws a row with every series' line and name.
fn draw_legend(area: &Area<'_>, series: &[Series], steps: bool) -> Result<()> {
    let mut left = MARGIN;
    for series in series {
        let style = style(series.scheme);
        let (dash, gap) = dashes(series.scheme).unwrap_or((SAMPLE, 0));
        let step = usize::try_from(dash + gap).unwrap_or(1);
        for from in (0..SAMPLE).step_by(step) {
            let end = (from + dash).min(SAMPLE);
            let line = PathElement::new([(left + from, 10), (left + end, 10)], style);
            area.draw(&line).map_err(failed)?;
        }
        let middle = (left + SAMPLE / 2, 10);
        match series.scheme.filter(|_| steps) {
            Some(Scheme::RoundRobin) => area.draw(&Cross::new(middle, MARK, style)),
            Some(Scheme::Modulo) => area.draw(&TriangleMarker::new(middle, MARK, style)),
            Some(Scheme::Maglev) => area.draw(&Circle::new(middle, MARK, style)),
            None => Ok(()),
        }
        .map_err(failed)?;
        let name = Text::new(series.name, (left + SAMPLE + 8, 3), text(13));
        area.draw(&name).map_err(failed)?;
        left += ENTRY;
    }
    Ok(())
}

/// Makes the colours follow what the reader prefers, and says what it is to whoever cannot see it.
fn by_dark(svg: &str, title: &str) -> String {
    let hex = |RGBColor(red, green, blue)| format!("#{red:02X}{green:02X}{blue:02X}");
    let rule = |(light, dark): &(RGBColor, &str)| {
        let light = hex(*light);
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    let rules: String = DARK.iter().map(rule).collect();
    let style = format!("<style>@media (prefers-color-scheme:dark){{{rules}}}</style>");
    // Behind the opening tag.
    let head = svg.find('>').map_or(0, |end| end + 1);
    format!("{}\n<title>{title}</title>\n{style}{}\n", &svg[..head], &svg[head..])
}

/// The style of a text of this size.
fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.01
}

#[expect(clippy::cast_precision_loss, reason = "numbers of points")]
const fn real(count: usize) -> f64 {
    count as f64
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("draw: {error}")
}
