//! The exposition formats: `OpenMetrics` 1.0, and Prometheus' older text format 0.0.4 for who does not ask for
//! it. The library writes the first; in the second a family of counters is called as its samples are.

use std::fmt;

use axum::http::{HeaderMap, header};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{
    Kind, METRICS, Metric, Observed,
    catalogue::{Label, Value},
};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// `OpenMetrics` where it is asked for by name, as Prometheus does.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter();
        let mut kinds = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        let asked = kinds.any(|kind| kind.trim_start().starts_with("application/openmetrics-text"));
        if asked { Self::OpenMetrics } else { Self::Plain }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics, written down.
pub(super) fn text(observed: Observed, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(observed));
    let mut written = String::new();
    // Writing to a String does not fail.
    let _ = text::encode(&mut written, &registry);
    match format {
        Format::OpenMetrics => written,
        Format::Plain => plain(&written),
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS.iter().try_for_each(|metric| family(&mut encoder, metric, self))
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    metric: &Metric,
    observed: &Observed,
) -> fmt::Result {
    let unit = metric.unit.map(|unit| Unit::Other(unit.to_owned()));
    let kind = match metric.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    };
    let mut family = encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), kind)?;
    let mut written = Ok(());
    (metric.samples)(observed, &mut |labels, value| {
        if written.is_ok() {
            written = sample(&mut family, labels, &value);
        }
    });
    written
}

fn sample(family: &mut MetricEncoder<'_>, labels: &[Label<'_>], value: &Value<'_>) -> fmt::Result {
    if let Value::Info = value {
        return family.encode_info(&labels);
    }
    let mut metric = family.encode_family(&labels)?;
    match value {
        Value::Counter(count) => metric.encode_counter::<NoLabelSet, u64, f64>(count, None),
        Value::Gauge(value) => metric.encode_gauge(value),
        Value::Histogram { sum, buckets } => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
        Value::Info => Ok(()),
    }
}

/// `OpenMetrics` in the older format.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let renamed = |name: &str| -> (&'static str, Option<&'static str>) {
        match METRICS.iter().find(|metric| metric.family() == name).map(|metric| metric.kind) {
            Some(Kind::Counter) => ("_total", None),
            Some(Kind::Info) => ("_info", Some("gauge")),
            _ => ("", None),
        }
    };
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) => {
                let (suffix, kind) = renamed(name);
                let rest = kind.filter(|_| what == "TYPE").unwrap_or(rest);
                plain.extend(["# ", what, " ", name, suffix, " ", rest]);
            }
            _ => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}
