//! The corpus: cases that once went differently, or that show a rule, kept as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::spec::Case;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Every case that is kept, by its file's name.
pub fn all() -> Vec<(String, Case)> {
    let files = fs::read_dir(folder()).expect("tests/corpus can be read");
    let mut cases: Vec<(String, Case)> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let case =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, case)
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

/// Keeps a case; returns its file.
pub fn keep(name: &str, case: &Case) -> PathBuf {
    let path = folder().join(format!("{name}.json"));
    fs::create_dir_all(folder()).unwrap();
    fs::write(&path, text(case)).unwrap();
    path
}

/// A case as text: a line for every step.
pub fn text(case: &Case) -> String {
    let json = |step| serde_json::to_string(step).expect("numbers and names only");
    let steps: Vec<String> = case.steps.iter().map(|step| format!("    {}", json(step))).collect();
    format!(
        "{{\n  \"about\": {},\n  \"places\": {},\n  \"steps\": [\n{}\n  ]\n}}\n",
        serde_json::Value::from(case.about.as_str()),
        case.places,
        steps.join(",\n")
    )
}
