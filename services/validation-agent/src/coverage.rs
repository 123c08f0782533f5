//! Line coverage of a run, and of the lines that a change added. Knows neither report formats nor
//! how the change was found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How often each line of each file ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    files: BTreeMap<String, FileCoverage>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FileCoverage {
    lines: BTreeMap<u32, u64>,
    branches_found: u64,
    branches_hit: u64,
}

/// Coverage of the added lines that can run at all.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCodeCoverage {
    /// Added lines that the coverage report knows as executable.
    pub executable_count: u64,
    /// Of these, the ones that ran.
    pub covered_count: u64,
    /// Lines that did not run, by path.
    pub uncovered: BTreeMap<String, Vec<u32>>,
}

impl NewCodeCoverage {
    /// Share of executable added lines that ran; `None` when there are none.
    pub fn percent(&self) -> Option<f64> {
        percent(self.covered_count, self.executable_count)
    }
}

impl Coverage {
    /// Adds what is known of one file; hits of the same line add up.
    pub fn add(&mut self, path: &str, lines: BTreeMap<u32, u64>, (found, hit): (u64, u64)) {
        let file = self.files.entry(path.to_owned()).or_default();
        for (line, hits) in lines {
            let sum = file.lines.entry(line).or_default();
            *sum = sum.saturating_add(hits);
        }
        file.branches_found = file.branches_found.saturating_add(found);
        file.branches_hit = file.branches_hit.saturating_add(hit);
    }

    /// Adds another report to this one.
    pub fn merge(&mut self, other: Self) {
        for (path, file) in other.files {
            self.add(&path, file.lines, (file.branches_found, file.branches_hit));
        }
    }

    /// The same with paths relative to `root`: files outside of it (standard library, dependencies) are left out.
    #[must_use]
    pub fn relative_to(&self, root: &str) -> Self {
        let root = root.trim_end_matches('/');
        let mut relative = Self::default();
        for (path, file) in &self.files {
            let inside = if path.starts_with('/') {
                path.strip_prefix(root)
                    .and_then(|rest| rest.strip_prefix('/'))
            } else {
                Some(path.trim_start_matches("./"))
            };
            if let Some(inside) =
                inside.filter(|inside| !inside.split('/').any(|part| part == ".."))
            {
                relative.add(
                    inside,
                    file.lines.clone(),
                    (file.branches_found, file.branches_hit),
                );
            }
        }
        relative
    }

    /// Keeps the files for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.files.retain(|path, _| keep(path));
    }

    /// Whether no line was measured.
    pub fn is_empty(&self) -> bool {
        self.files.values().all(|file| file.lines.is_empty())
    }

    /// How often a line ran; `None` when it is not executable or its file was not measured.
    pub fn hits(&self, path: &str, line: u32) -> Option<u64> {
        self.files.get(path)?.lines.get(&line).copied()
    }

    /// Files that were measured.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Share of executable lines that ran; `None` when none was measured.
    pub fn line_percent(&self) -> Option<f64> {
        let lines = || self.files.values().flat_map(|file| file.lines.values());
        percent(
            lines().filter(|hits| **hits > 0).count() as u64,
            lines().count() as u64,
        )
    }

    /// Share of branches that were taken; `None` when none was measured.
    pub fn branch_percent(&self) -> Option<f64> {
        let sum = |of: fn(&FileCoverage) -> u64| self.files.values().map(of).sum();
        percent(
            sum(|file| file.branches_hit),
            sum(|file| file.branches_found),
        )
    }

    /// Coverage of `added` lines. An added line of a measured kind of file that the report does not know at all
    /// is judged by `executable`: a new file that no test loads must not count as nothing.
    pub fn of_new_code(
        &self,
        added: &BTreeMap<String, BTreeSet<u32>>,
        executable: impl Fn(&str, u32) -> bool,
    ) -> NewCodeCoverage {
        let mut new = NewCodeCoverage {
            executable_count: 0,
            covered_count: 0,
            uncovered: BTreeMap::new(),
        };
        for (path, lines) in added {
            let file = self.files.get(path);
            for &line in lines {
                let hits = match file {
                    Some(file) => file.lines.get(&line).copied(),
                    None => executable(path, line).then_some(0),
                };
                let Some(hits) = hits else { continue };
                new.executable_count += 1;
                if hits > 0 {
                    new.covered_count += 1;
                } else {
                    new.uncovered.entry(path.clone()).or_default().push(line);
                }
            }
        }
        new
    }
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::Coverage;

    fn coverage() -> Coverage {
        let mut coverage = Coverage::default();
        coverage.add(
            "/w/shop/a.py",
            BTreeMap::from([(1, 1), (2, 0), (4, 3)]),
            (2, 1),
        );
        coverage.add("/usr/lib/python3/json.py", BTreeMap::from([(1, 0)]), (0, 0));
        coverage
    }

    #[test]
    fn only_the_project_counts() {
        let coverage = coverage().relative_to("/w/shop");
        assert_eq!(coverage.paths().collect::<Vec<_>>(), ["a.py"]);
        assert!((coverage.line_percent().unwrap() - 66.66).abs() < 0.01);
    }

    #[test]
    fn paths_out_of_the_checkout_are_left_out() {
        let mut outside = Coverage::default();
        outside.add("../other/a.py", BTreeMap::from([(1, 1)]), (0, 0));
        outside.add("/w/shopping/a.py", BTreeMap::from([(1, 1)]), (0, 0));
        assert!(outside.relative_to("/w/shop").is_empty());
    }

    #[test]
    fn added_lines_are_measured_where_they_can_run() {
        let coverage = coverage().relative_to("/w/shop");
        let added = BTreeMap::from([
            ("a.py".to_owned(), BTreeSet::from([2, 3, 4])),
            ("unloaded.py".to_owned(), BTreeSet::from([1, 2])),
            ("README.md".to_owned(), BTreeSet::from([1])),
        ]);
        let new = coverage.of_new_code(&added, |path, line| path == "unloaded.py" && line == 1);
        assert_eq!((new.covered_count, new.executable_count), (1, 3));
        assert_eq!(new.uncovered["a.py"], [2]);
        assert_eq!(new.uncovered["unloaded.py"], [1]);
    }

    #[test]
    fn nothing_measured_has_no_percentage() {
        assert_eq!(Coverage::default().line_percent(), None);
        let nothing = Coverage::default().of_new_code(&BTreeMap::new(), |_, _| true);
        assert_eq!(nothing.percent(), None);
    }
}
