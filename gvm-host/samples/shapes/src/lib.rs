//! Areas of shapes, computed here or on other nodes. In: shapes. Out: areas, and the rectangle around shapes.

gvm_guest::module!(
    "package samples:shapes;
    interface types {
        record point { x: f64, y: f64 }
        record rectangle { low: point, high: point }
        record disc { centre: point, radius: f64 }
        variant shape { dot(point), disc(disc), rectangle(rectangle) }
    }
    world shapes {
        use types.{shape, rectangle};
        export area: func(of: shape) -> f64;
        /// Returns the smallest rectangle around all shapes; none if there are no shapes.
        export bounds: func(of: list<shape>) -> option<rectangle>;
        /// Returns the sum of all areas, computed on this node and the connected nodes. Needs --grant nodes.
        export total-area: func(of: list<shape>) -> result<f64, string>;
    }"
);

use bindings::samples::shapes::types::{Disc, Point};

struct Shapes;

export!(Shapes with_types_in bindings);

fn around(shape: &Shape) -> Rectangle {
    match *shape {
        Shape::Dot(at) => Rectangle { low: at, high: at },
        Shape::Disc(Disc { centre: Point { x, y }, radius }) => Rectangle {
            low: Point { x: x - radius, y: y - radius },
            high: Point { x: x + radius, y: y + radius },
        },
        Shape::Rectangle(rectangle) => rectangle,
    }
}

/// Writes a shape in WAVE.
fn wave(shape: &Shape) -> String {
    let point = |point: &Point| format!("{{x: {:?}, y: {:?}}}", point.x, point.y);
    match shape {
        Shape::Dot(at) => format!("dot({})", point(at)),
        Shape::Disc(disc) => format!("disc({{centre: {}, radius: {:?}}})", point(&disc.centre), disc.radius),
        Shape::Rectangle(r) => format!("rectangle({{low: {}, high: {}}})", point(&r.low), point(&r.high)),
    }
}

impl Guest for Shapes {
    fn area(of: Shape) -> f64 {
        match of {
            Shape::Dot(_) => 0.0,
            Shape::Disc(Disc { radius, .. }) => std::f64::consts::PI * radius * radius,
            Shape::Rectangle(Rectangle { low, high }) => (high.x - low.x) * (high.y - low.y),
        }
    }

    fn bounds(of: Vec<Shape>) -> Option<Rectangle> {
        of.iter().map(around).reduce(|a, b| Rectangle {
            low: Point { x: a.low.x.min(b.low.x), y: a.low.y.min(b.low.y) },
            high: Point { x: a.high.x.max(b.high.x), y: a.high.y.max(b.high.y) },
        })
    }

    fn total_area(of: Vec<Shape>) -> Result<f64, String> {
        let calls: Vec<String> = of.iter().map(|shape| format!("shapes.area({})", wave(shape))).collect();
        let areas = gvm_guest::spread(calls.iter().map(String::as_str)).map_err(|error| error.message)?;
        areas.into_iter().flatten().map(|area| area.parse::<f64>().map_err(|error| error.to_string())).sum()
    }
}
