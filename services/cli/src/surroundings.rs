//! What every verb is given: where to print, whom to ask, and where the mesh is.

use crate::arguments::Global;
use crate::error::Error;
use crate::input::Input;
use crate::mesh::{Mesh, Place};
use crate::output::{Form, Output};

/// What every verb is given.
pub struct Surroundings {
    /// Where to print.
    pub output: Output,
    /// Where the mesh is looked for.
    pub place: Place,
    no_input: bool,
}

impl Surroundings {
    /// Those of the process.
    pub fn of_process(global: &Global) -> Self {
        let form = if global.json { Form::Json } else { Form::Text };
        let no_color = global
            .no_color
            .as_deref()
            .is_some_and(|value| !value.is_empty());
        Self {
            output: Output::of_process(form, global.quiet, global.color, no_color),
            place: Place {
                orchestrator: global.orchestrator.clone(),
                data: global.data.clone(),
                token_file: global.token_file.clone(),
                tls: global.tls.clone(),
                namespace: global.namespace.clone(),
            },
            no_input: global.no_input,
        }
    }

    /// The mesh.
    pub fn mesh(&self) -> Result<Mesh, Error> {
        Mesh::find(self.place.clone())
    }

    /// Whom to ask.
    pub fn input(&self) -> Input {
        Input::of_process(self.no_input)
    }
}
