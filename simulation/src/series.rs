//! What is drawn: points of several series, in panels.

use std::fmt;

use crate::scheme::Scheme;

/// A panel of a plot.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What sets it apart from the one beside it.
    pub title: String,
    /// What its axes are, with units.
    pub axes: [&'static str; 2],
    /// Whether the points stand at equal distances, each with its number below, rather than where that is.
    pub steps: bool,
    /// From where to where the vertical axis goes.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// The series.
    pub series: Vec<Series>,
}

/// One series of a panel.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend calls it.
    pub name: &'static str,
    /// How it is drawn; `None`: it is the floor that nothing can go below.
    pub scheme: Option<Scheme>,
    /// Its points: what is varied, and what came of it.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// An empty one.
    pub const fn of(scheme: Scheme) -> Self {
        Self { name: scheme.name(), scheme: Some(scheme), points: Vec::new() }
    }
}

impl fmt::Display for Panel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({} over {})", self.title, self.axes[1], self.axes[0])?;
        for series in &self.series {
            write!(f, "  {:<14}", series.name)?;
            // Of many points as many as a line holds.
            let step = series.points.len().div_ceil(12).max(1);
            for (x, y) in series.points.iter().rev().step_by(step).rev() {
                write!(f, " {x:.0}:{y:.3}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
