//! A model that answers from recordings, and only from them: a request that is not recorded is an error which
//! names the nearest recording and the first difference. Faults can be recorded like answers.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Answer, Error, Model, Request, canonical};

/// Largest recording.
const RECORDING_BYTES: u64 = 16 * 1024 * 1024;
/// Most recordings of a folder.
const RECORDING_COUNT: usize = 10_000;

/// One request and what came of it each time it was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// Version of this format: 1.
    pub version: u32,
    /// The request.
    pub request: Request,
    /// What came of it, first time first.
    pub takes: Vec<Take>,
}

/// What came of a request, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// An answer; also one that was cut off or refused.
    Answer(Answer),
    /// The provider had too much to do.
    Overloaded {
        /// Seconds after which it is worth asking again.
        #[serde(default)]
        retry_after_seconds: Option<u64>,
    },
    /// The provider could not be reached, or broke off.
    Unreachable {
        /// What happened.
        detail: String,
    },
    /// The provider took the request for wrong.
    Rejected {
        /// What it said.
        detail: String,
    },
}

/// All recordings of a folder, by the keys of their requests. All are of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Cassette {
    model: String,
    recordings: BTreeMap<String, Recorded>,
}

#[derive(Debug, Clone, PartialEq)]
struct Recorded {
    place: PathBuf,
    recording: Recording,
}

/// Why recordings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Something could not be read.
    #[error("cannot read {place}")]
    Io {
        /// What.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not a recording.
    #[error("{place} is not a recording: {problem}")]
    Malformed {
        /// Which file.
        place: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Two files have one request.
    #[error("{place} has the same request as {other}")]
    Twice {
        /// The second.
        place: PathBuf,
        /// The first.
        other: PathBuf,
    },
    /// The recordings are of different models.
    #[error("{place} is of model {found}, the others are of {expected}")]
    Models {
        /// The odd one.
        place: PathBuf,
        /// Its model.
        found: String,
        /// The others' model.
        expected: String,
    },
    /// There is none.
    #[error("{0} has no recording (*.json)")]
    Empty(PathBuf),
}

/// A request that is not recorded, or was asked more often than it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// Nothing was recorded for it.
    #[error(
        "request {key} is not recorded; the nearest recording is {}, which differs first at {}: asked {}, recorded {}",
        .nearest.display(), .difference.place, .difference.asked, .difference.recorded
    )]
    Unknown {
        /// Key of the request.
        key: String,
        /// The recording that shares most with it.
        nearest: PathBuf,
        /// Where they differ first.
        difference: canonical::Difference,
    },
    /// Every take was given already.
    #[error("request {key} is recorded {takes} time(s) in {} and was asked once more", .place.display())]
    Exhausted {
        /// Key of the request.
        key: String,
        /// Its recording.
        place: PathBuf,
        /// How often it is recorded.
        takes: usize,
    },
}

impl Cassette {
    /// Reads every `*.json` of a folder, strictly.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let mut places = Vec::new();
        for entry in fs::read_dir(folder).map_err(io_error(folder))? {
            let place = entry.map_err(io_error(folder))?.path();
            if place.extension().is_some_and(|end| end == "json") {
                places.push(place);
            }
        }
        places.sort();
        if places.is_empty() {
            return Err(LoadError::Empty(folder.to_owned()));
        }
        if places.len() > RECORDING_COUNT {
            return Err(LoadError::Malformed {
                place: folder.to_owned(),
                problem: format!("more than {RECORDING_COUNT} recordings"),
            });
        }
        let mut cassette = Self {
            model: String::new(),
            recordings: BTreeMap::new(),
        };
        for place in places {
            let recording = read(&place)?;
            cassette.add(place, recording)?;
        }
        Ok(cassette)
    }

    fn add(&mut self, place: PathBuf, recording: Recording) -> Result<(), LoadError> {
        let model = &recording.request.model;
        if self.recordings.is_empty() {
            self.model.clone_from(model);
        } else if self.model != *model {
            return Err(LoadError::Models {
                place,
                found: model.clone(),
                expected: self.model.clone(),
            });
        }
        let key = canonical::key(&recording.request);
        if let Some(other) = self.recordings.get(&key) {
            return Err(LoadError::Twice {
                place,
                other: other.place.clone(),
            });
        }
        self.recordings.insert(key, Recorded { place, recording });
        Ok(())
    }

    /// Model that all recordings are of.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Plays the recordings from their beginning.
    pub fn player(self: &Arc<Self>) -> Player {
        Player {
            cassette: Arc::clone(self),
            given: Mutex::default(),
        }
    }

    fn unknown(&self, key: String, request: &Request) -> Option<Miss> {
        let asked = canonical::value(request);
        let compared = self.recordings.values().map(|recorded| {
            let (shared, difference) =
                canonical::compare(&asked, &canonical::value(&recorded.recording.request));
            (shared, recorded, difference)
        });
        // Of those that share as much, the first by place.
        let nearest = compared.max_by(|a, b| (a.0, &b.1.place).cmp(&(b.0, &a.1.place)));
        let (_, recorded, difference) = nearest?;
        Some(Miss::Unknown {
            key,
            nearest: recorded.place.clone(),
            difference: difference?,
        })
    }
}

/// Plays a cassette, each recording's takes in their order.
#[derive(Debug)]
pub struct Player {
    cassette: Arc<Cassette>,
    // How many takes of each recording were given.
    given: Mutex<HashMap<String, usize>>,
}

impl Player {
    fn play(&self, request: &Request) -> Result<Answer, Error> {
        let key = canonical::key(request);
        let model = || self.cassette.model.clone();
        let Some(recorded) = self.cassette.recordings.get(&key) else {
            return Err(match self.cassette.unknown(key, request) {
                Some(miss) => Error::NotRecorded(Box::new(miss)),
                None => Error::Rejected {
                    model: model(),
                    detail: "the cassette is empty".to_owned(),
                },
            });
        };
        let takes = &recorded.recording.takes;
        let take = {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            let count = given.entry(key.clone()).or_default();
            let take = takes.get(*count);
            *count += 1;
            take
        };
        match take {
            Some(Take::Answer(answer)) => Ok(answer.clone()),
            Some(Take::Overloaded {
                retry_after_seconds,
            }) => Err(Error::Overloaded {
                model: model(),
                retry_after: retry_after_seconds.map(Duration::from_secs),
            }),
            Some(Take::Unreachable { detail }) => Err(Error::Unreachable {
                model: model(),
                detail: detail.clone(),
            }),
            Some(Take::Rejected { detail }) => Err(Error::Rejected {
                model: model(),
                detail: detail.clone(),
            }),
            None => Err(Error::NotRecorded(Box::new(Miss::Exhausted {
                key,
                place: recorded.place.clone(),
                takes: takes.len(),
            }))),
        }
    }
}

impl Model for Player {
    fn name(&self) -> &str {
        &self.cassette.model
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(std::future::ready(self.play(request)))
    }
}

fn read(place: &Path) -> Result<Recording, LoadError> {
    let malformed = |problem: String| LoadError::Malformed {
        place: place.to_owned(),
        problem,
    };
    let size = fs::metadata(place).map_err(io_error(place))?.len();
    if size > RECORDING_BYTES {
        return Err(malformed(format!(
            "has {size} bytes, at most {RECORDING_BYTES}"
        )));
    }
    let bytes = fs::read(place).map_err(io_error(place))?;
    let recording: Recording =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    match recording.version {
        1 if recording.takes.is_empty() => Err(malformed("it has no take".to_owned())),
        1 => Ok(recording),
        other => Err(malformed(format!(
            "it has version {other}; this is version 1"
        ))),
    }
}

fn io_error(place: &Path) -> impl FnOnce(io::Error) -> LoadError {
    let place = place.to_owned();
    move |source| LoadError::Io { place, source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recording(model: &str, prompt: &str) -> serde_json::Value {
        json!({
            "version": 1,
            "request": {"model": model, "system": "s", "prompt": prompt, "tools": [], "max_output_tokens": 9},
            "takes": [{"answer": {"text": prompt, "ended": "complete"}}, {"overloaded": {"retry_after_seconds": 3}}],
        })
    }

    fn load(recordings: &[serde_json::Value]) -> Result<Arc<Cassette>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (index, recording) in recordings.iter().enumerate() {
            let place = folder.path().join(format!("{index}.json"));
            fs::write(place, recording.to_string()).unwrap();
        }
        fs::write(folder.path().join("README.md"), "about these recordings").unwrap();
        Cassette::load(folder.path())
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }

    fn request(prompt: &str) -> Request {
        serde_json::from_value(recording("m", prompt)["request"].clone()).unwrap()
    }

    #[test]
    fn takes_are_given_in_their_order_and_no_more_than_there_are() {
        let cassette = load(&[recording("m", "a")]).unwrap();
        for player in [cassette.player(), cassette.player()] {
            assert_eq!(player.play(&request("a")).unwrap().text, "a");
            let fault = player.play(&request("a")).unwrap_err();
            assert_eq!(fault.retry_after(), Some(Duration::from_secs(3)));
            assert_eq!(fault.to_string(), "m is overloaded; ask again in 3 s");
            let exhausted = player.play(&request("a")).unwrap_err().to_string();
            assert!(exhausted.contains("recorded 2 time(s)"), "{exhausted}");
        }
    }

    #[test]
    fn a_miss_names_the_nearest_recording_and_the_first_difference() {
        let near = "one\ntwo\nthree\nfour";
        let cassette = load(&[recording("m", "else"), recording("m", near)]).unwrap();
        let miss = cassette
            .player()
            .play(&request("one\ntwo\n3\nfour"))
            .unwrap_err()
            .to_string();
        assert!(miss.contains("/1.json"), "{miss}");
        let difference = "differs first at /prompt, line 3: asked `3`, recorded `three`";
        assert!(miss.contains(difference), "{miss}");
    }

    #[test]
    fn recordings_that_are_not_sound_are_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut changed = recording("m", "a");
            changed[key] = value;
            changed
        };
        for (recordings, why) in [
            (vec![], "has no recording"),
            (
                vec![recording("m", "a"), recording("m", "a")],
                "same request",
            ),
            (
                vec![recording("m", "a"), recording("n", "b")],
                "is of model n",
            ),
            (vec![with("version", json!(2))], "version 2"),
            (vec![with("takes", json!([]))], "no take"),
            (vec![with("extra", json!(1))], "extra"),
            (
                vec![with("takes", json!([{"answer": {"text": "a"}}]))],
                "ended",
            ),
            (
                vec![with(
                    "takes",
                    json!([{"answer": {"ended": "complete", "stop": 1}}]),
                )],
                "stop",
            ),
        ] {
            let refusal = load(&recordings).expect_err(why);
            assert!(refusal.contains(why), "{why}: {refusal}");
        }
    }
}
