//! Records what a model is asked and answers, as a cassette that plays it again.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use futures::future::BoxFuture;

use super::{
    Answer, Error, Model, Request, canonical,
    cassette::{Recording, Take},
};

/// A model that leaves a recording of everything it is asked.
pub struct Recorder<M> {
    model: M,
    folder: PathBuf,
    // What was recorded by this recorder, by the keys of the requests.
    recordings: Mutex<HashMap<String, Recording>>,
}

impl<M: Model> Recorder<M> {
    /// Records into a folder. A recording that is there already and is asked for again is made anew.
    pub fn new(model: M, folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            model,
            folder: folder.to_owned(),
            recordings: Mutex::default(),
        })
    }

    fn keep(&self, request: &Request, take: Take) -> Result<(), Error> {
        let key = canonical::key(request);
        let place = self.folder.join(format!("{}.json", &key[..16]));
        let mut recordings = self
            .recordings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let recording = recordings.entry(key).or_insert_with(|| Recording {
            version: 1,
            request: request.clone(),
            takes: Vec::new(),
        });
        recording.takes.push(take);
        write(&place, recording).map_err(|source| Error::NotKept { place, source })
    }
}

/// Beside its place first, so that nobody reads half of it.
fn write(place: &Path, recording: &Recording) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(recording)?;
    text.push(b'\n');
    let partial = place.with_extension("partial");
    fs::write(&partial, text)?;
    fs::rename(&partial, place)
}

impl<M: Model> Model for Recorder<M> {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn answer<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(async move {
            let answered = self.model.answer(request).await;
            let take = match &answered {
                Ok(answer) => Take::Answer(answer.clone()),
                Err(Error::Overloaded { retry_after, .. }) => Take::Overloaded {
                    retry_after_seconds: retry_after.map(|delay| delay.as_secs()),
                },
                Err(Error::Unreachable { detail, .. }) => Take::Unreachable {
                    detail: detail.clone(),
                },
                Err(Error::Rejected { detail, .. }) => Take::Rejected {
                    detail: detail.clone(),
                },
                // These are about recordings, and say nothing about the model.
                Err(Error::NotRecorded(_) | Error::NotKept { .. }) => return answered,
            };
            self.keep(request, take)?;
            answered
        })
    }
}
