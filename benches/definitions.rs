//! Discovering and parsing a thousand definitions. The aim is 20 ms.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use claude_bottle::breach::Breach;
use claude_bottle::probe::catalogue::Catalogue;
use criterion::{Criterion, criterion_group, criterion_main};

/// The project's own definitions, over and over under other names.
fn definitions(folder: &Path, count: usize) {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes");
    let mut files: Vec<_> = fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for (number, file) in files.iter().cycle().take(count).enumerate() {
        fs::copy(file, folder.join(format!("probe-{number}.toml"))).unwrap();
    }
}

fn discover(c: &mut Criterion) {
    let breaches = Breach::names();
    let breaches = breaches.as_slice();
    let folder = tempfile::tempdir().unwrap();
    definitions(folder.path(), 1000);
    c.bench_function("discover and parse 1,000 definitions", |b| {
        b.iter_with_large_drop(|| {
            let catalogue = Catalogue::discover(black_box(folder.path()), breaches).unwrap();
            assert_eq!(catalogue.probes().len(), 1000);
            catalogue
        });
    });
    c.bench_function("parse the built-in definitions", |b| {
        b.iter_with_large_drop(|| Catalogue::embedded(black_box(breaches)).unwrap());
    });
}

criterion_group!(benches, discover);
criterion_main!(benches);
