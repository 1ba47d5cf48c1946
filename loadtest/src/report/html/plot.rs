//! Lines over axes as SVG text. Knows nothing of what they show: ticks and labels come from the caller.
//!
//! Colours are left to the page: each stands in the drawing as a number that the page's style replaces, so that light
//! and dark pages, and the legends, have them from one place.

use std::{error::Error, ops::Range};

use plotters::{
    coord::{
        Shift,
        ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    },
    prelude::*,
};

/// The drawing's own units; the page scales it.
const SIZE: (u32, u32) = (920, 320);
/// Room for the axes' labels.
const LABELS_LEFT: u32 = 78;
const LABELS_BELOW: u32 = 46;
const TEXT_SIZE: i32 = 16;
/// In `page.css`: text and grid, then the colours of lines from 10 on.
const TEXT: RGBColor = RGBColor(1, 0, 0);
const GRID: RGBColor = RGBColor(2, 0, 0);
const LINES: u8 = 0x10;

/// A line's place in the page's style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    First,
    Second,
    Muted,
    Bad,
    /// One hue that grows stronger.
    Ramp1,
    Ramp2,
    Ramp3,
    Ramp4,
}

impl Colour {
    /// The legend's class.
    pub(super) fn class(self) -> String {
        format!("c{}", self as u8)
    }
}

/// Points from left to right; one that is not finite interrupts the line.
pub(super) struct Line {
    pub(super) colour: Colour,
    pub(super) points: Vec<(f64, f64)>,
}

/// What stands beside an axis, how it is divided, where it begins and ends, and its ticks.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) title: &'static str,
    pub(super) scale: Scale,
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// For a range above 0.
    Logarithmic,
}

/// Draws lines.
pub(super) fn draw(across: &Axis, up: &Axis, lines: &[Line]) -> String {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = plot(&root, across, up, lines);
    drop(root);
    // Drawing into a string has nothing that could fail; a page without one plot is better than none.
    if drawn.is_ok() { svg } else { String::new() }
}

fn plot(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    across: &Axis,
    up: &Axis,
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .margin_right(30)
        .x_label_area_size(LABELS_BELOW)
        .y_label_area_size(LABELS_LEFT)
        .build_cartesian_2d(across.clone(), up.clone())?;
    let text = ("sans-serif", TEXT_SIZE).into_font().color(&TEXT);
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_desc(across.title)
        .y_desc(up.title)
        .draw()?;
    for line in lines {
        let style = RGBColor(LINES + line.colour as u8, 0, 0).stroke_width(2);
        for stroke in line.points.split(|&(_, y)| !y.is_finite()) {
            chart.draw_series(LineSeries::new(stroke.iter().copied(), style))?;
        }
    }
    root.present()?;
    Ok(())
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, pixels: (i32, i32)) -> i32 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(self.range.start).ln(),
        };
        let (start, end) = (place(self.range.start), place(self.range.end));
        let share = (place(*value) - start) / (end - start);
        pixels.0 + (f64::from(pixels.1 - pixels.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks
            .iter()
            .map(|&(at, _)| at)
            .filter(|at| (self.range.start..=self.range.end).contains(at))
            .collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(at, _)| at == value).map_or_else(String::new, |(_, text)| text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_ticks_and_lines() {
        let axis = |title, scale| Axis {
            scale,
            title,
            range: 1.0..100.0,
            ticks: vec![(1.0, "one".into()), (100.0, "hundred".into())],
        };
        let line = Line {
            colour: Colour::Second,
            points: vec![(1.0, 1.0), (50.0, f64::NAN), (60.0, 9.0), (100.0, 100.0)],
        };
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = draw(&axis("across", Scale::Linear), &axis("up", scale), std::slice::from_ref(&line));
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for text in ["across", "up", "one", "hundred", "stroke=\"#110000\""] {
                assert!(svg.contains(text), "no {text} in {svg}");
            }
        }
    }
}
