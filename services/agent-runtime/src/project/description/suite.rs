//! What is tested against the running app beside its declared endpoints.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::Report;
use crate::project::value::{Argv, ConfinedPath, FilePattern, Name, Period};

/// What is tested against the running app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "E2eKeys", into = "E2eKeys")]
pub struct E2e {
    /// Suites, each with a name of its own.
    pub suites: Vec<Suite>,
    /// How often a failed test is run again.
    pub retries: Option<u8>,
}

/// What is tested against the running app.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct E2eKeys {
    /// Suites, each with a name of its own. They find the app in `BASE_URL`; Hurl files in `{{base_url}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suites: Vec<Suite>,
    /// How often a failed test is run again, 0 to 3: first at once, then at the end; 2 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(max = 3)))]
    retries: Option<u8>,
}

impl TryFrom<E2eKeys> for E2e {
    type Error = String;

    fn try_from(keys: E2eKeys) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        if let Some(twice) = keys.suites.iter().find(|suite| !names.insert(&suite.name)) {
            return Err(format!("two suites are named `{}`", twice.name));
        }
        if keys.retries.is_some_and(|retries| retries > 3) {
            return Err("`retries` is at most 3".into());
        }
        Ok(Self {
            suites: keys.suites,
            retries: keys.retries,
        })
    }
}

impl From<E2e> for E2eKeys {
    fn from(e2e: E2e) -> Self {
        Self {
            suites: e2e.suites,
            retries: e2e.retries,
        }
    }
}

/// One suite: exactly one of `hurl`, `playwright`, `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "SuiteKeys", into = "SuiteKeys")]
pub struct Suite {
    /// Its name.
    pub name: Name,
    /// What runs it.
    pub by: SuiteBy,
    /// Limit of one run.
    pub timeout: Option<Period>,
    /// Whether it needs more network than the app.
    pub network: bool,
}

/// What runs a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuiteBy {
    /// The Hurl program, with these files.
    Hurl(Vec<FilePattern>),
    /// The project's own Playwright tests in this folder.
    Playwright {
        /// Where the tests are.
        folder: ConfinedPath,
        /// On which browsers they run.
        browsers: Vec<Browser>,
    },
    /// A program of the project's own.
    Command {
        /// Program and arguments.
        argv: Argv,
        /// Where it leaves its report; without one, the program itself is one test.
        report: Option<Report>,
    },
}

/// A browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Browser {
    /// Chromium.
    Chromium,
    /// Firefox.
    Firefox,
    /// WebKit.
    Webkit,
}

impl fmt::Display for Browser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::Webkit => "webkit",
        })
    }
}

/// One suite: exactly one of `hurl`, `playwright`, `command`.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, schemars(extend("oneOf" = [{"required": ["hurl"]}, {"required": ["playwright"]}, {"required": ["command"]}])))]
pub(crate) struct SuiteKeys {
    /// Its name.
    name: Name,
    /// Hurl files, as patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hurl: Option<Vec<FilePattern>>,
    /// Folder of the project's own Playwright tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    playwright: Option<ConfinedPath>,
    /// Browsers for `playwright`; Chromium if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    browsers: Option<Vec<Browser>>,
    /// Program and arguments of the project's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Argv>,
    /// Where `command` leaves its report; without one, the program itself is one test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
    /// Limit of one run; 300 s if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Period>,
    /// Whether it needs more network than the app; no if left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    network: bool,
}

impl TryFrom<SuiteKeys> for Suite {
    type Error = String;

    fn try_from(keys: SuiteKeys) -> Result<Self, String> {
        let name = keys.name;
        if keys.browsers.is_some() && keys.playwright.is_none() {
            return Err(format!(
                "suite `{name}`: `browsers` belongs to `playwright`"
            ));
        }
        if keys.report.is_some() && keys.command.is_none() {
            return Err(format!("suite `{name}`: `report` belongs to `command`"));
        }
        let by = match (keys.hurl, keys.playwright, keys.command) {
            (Some(files), None, None) if !files.is_empty() => SuiteBy::Hurl(files),
            (Some(_), None, None) => return Err(format!("suite `{name}`: `hurl` names no files")),
            (None, Some(folder), None) => {
                let mut browsers = keys.browsers.unwrap_or_else(|| vec![Browser::Chromium]);
                browsers.sort();
                browsers.dedup();
                if browsers.is_empty() {
                    return Err(format!("suite `{name}`: `browsers` names none"));
                }
                SuiteBy::Playwright { folder, browsers }
            }
            (None, None, Some(argv)) => SuiteBy::Command {
                argv,
                report: keys.report,
            },
            _ => {
                return Err(format!(
                    "suite `{name}` has exactly one of `hurl`, `playwright`, `command`"
                ));
            }
        };
        Ok(Self {
            name,
            by,
            timeout: keys.timeout,
            network: keys.network,
        })
    }
}

impl From<Suite> for SuiteKeys {
    fn from(suite: Suite) -> Self {
        let mut keys = Self {
            name: suite.name,
            hurl: None,
            playwright: None,
            browsers: None,
            command: None,
            report: None,
            timeout: suite.timeout,
            network: suite.network,
        };
        match suite.by {
            SuiteBy::Hurl(files) => keys.hurl = Some(files),
            SuiteBy::Playwright { folder, browsers } => {
                keys.playwright = Some(folder);
                keys.browsers = Some(browsers);
            }
            SuiteBy::Command { argv, report } => {
                keys.command = Some(argv);
                keys.report = report;
            }
        }
        keys
    }
}
