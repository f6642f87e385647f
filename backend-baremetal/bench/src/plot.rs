//! Pictures: costs over how many pages are changed at once, and pages over threads.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// A line of a picture.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// What the axes are.
    pub axes: (&'static str, &'static str),
    /// Whether both axes are logarithmic.
    pub is_logarithmic: bool,
    /// The lines.
    pub series: Vec<Series>,
}

const SIZE: (u32, u32) = (900, 560);

/// Colours that people with any kind of sight can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 0, 0),
    RGBColor(150, 150, 150),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
];

/// Writes a picture as an SVG file.
///
/// # Errors
///
/// One sentence, if there is nothing to show or the file cannot be written.
pub fn write(picture: &Picture, path: &Path) -> Result<(), String> {
    draw(picture, path).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn draw(picture: &Picture, path: &Path) -> Result<(), Box<dyn Error>> {
    let points = || picture.series.iter().flat_map(|series| series.points.iter().copied());
    let end = |least: fn(f64, f64) -> f64, of: fn((f64, f64)) -> f64| {
        points().map(of).reduce(least).ok_or("there are no points")
    };
    let x = end(f64::min, |(x, _)| x)?..end(f64::max, |(x, _)| x)?;
    let highest = end(f64::max, |(_, y)| y)?;
    let lowest = end(f64::min, |(_, y)| y)?;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder
        .caption(&picture.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60);
    if picture.is_logarithmic {
        // Below the lines there is room for what they are called.
        let y = lowest * 0.2..highest * 1.25;
        lines(&mut builder, picture, x.log_scale().base(2.0), y.log_scale())?;
    } else {
        lines(&mut builder, picture, x, 0.0..highest * 1.1)?;
    }
    root.present()?;
    Ok(())
}

fn lines<'a, X, Y>(
    builder: &mut ChartBuilder<'_, '_, SVGBackend<'a>>,
    picture: &Picture,
    x: X,
    y: Y,
) -> Result<(), Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let mut chart = builder.build_cartesian_2d(x, y)?;
    let longest = picture.series.iter().map(|series| series.points.len()).max().unwrap_or(1);
    chart
        .configure_mesh()
        .x_desc(picture.axes.0)
        .y_desc(picture.axes.1)
        .x_labels(longest)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    for (series, colour) in picture.series.iter().zip(COLOURS.into_iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(series.points.iter().copied(), style))?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
