//! Puts the built-in templates into the binary: a list of their files, sorted, with their content.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?)
        .join("templates");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &root, &mut files)?;
    files.sort();
    let mut list = String::from("pub static FILES: &[(&str, &[u8])] = &[\n");
    for file in files {
        let absolute = root.join(&file);
        let absolute = absolute.to_str().ok_or("the crate's path is not UTF-8")?;
        writeln!(list, "    ({file:?}, include_bytes!({absolute:?})),")?;
    }
    list.push_str("];\n");
    let out = Path::new(&env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("builtin.rs");
    fs::write(out, list)?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // What running a template's parts in place leaves behind.
            if !["__pycache__", "node_modules", "target"]
                .contains(&&*entry.file_name().to_string_lossy())
            {
                collect(root, &path, files)?;
            }
        } else {
            println!("cargo::rerun-if-changed={}", path.display());
            let place = path
                .strip_prefix(root)?
                .to_str()
                .ok_or("a template's path is not UTF-8")?;
            files.push(place.to_owned());
        }
    }
    Ok(())
}
