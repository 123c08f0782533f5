//! Code that an interpreter or test runner starts beside the tests, without any test naming it. Knows
//! the places and names only.

use super::{ChangedFile, Class, JudgeChange};

/// Folders that interpreters put on their module path when tests run.
const MODULE_ROOTS: &[&str] = &["", "src", "lib", "test", "tests"];

/// Modules of Python's standard library (3.8 to 3.14) and of the usual test tools: a file of that name at a module
/// root is loaded in their place.
const PYTHON_MODULES: &str = "abc aifc antigravity argparse array ast asynchat asyncio asyncore atexit audioop \
base64 bdb binascii binhex bisect builtins bz2 cProfile calendar cgi cgitb chunk cmath cmd code codecs codeop \
collections colorsys compileall compression concurrent configparser contextlib contextvars copy copyreg crypt csv \
ctypes curses dataclasses datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum errno \
faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt getpass gettext glob \
graphlib grp gzip hashlib heapq hmac html http imaplib imghdr imp importlib inspect io ipaddress itertools json \
keyword linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap modulefinder msilib multiprocessing \
netrc nis nntplib ntpath numbers opcode operator optparse os ossaudiodev pathlib pdb pickle pickletools pipes pkgutil \
platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc pyexpat queue quopri \
random re readline reprlib resource rlcompleter runpy sched secrets select selectors shelve shlex shutil signal site \
smtpd smtplib sndhdr socket socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string \
stringprep struct subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios textwrap \
threading time timeit tkinter token tokenize tomllib trace traceback tracemalloc tty types typing unicodedata unittest \
urllib uu uuid venv warnings wave weakref webbrowser wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib zoneinfo \
pytest _pytest pluggy coverage nose nose2 hypothesis mypy ruff black flake8 pylint tox nox trial";

pub(super) fn classify(file: &ChangedFile) -> Option<JudgeChange> {
    // What is deleted no longer starts; what it did is then missing from the tests, which shows.
    file.after.as_ref()?;
    let path = file.path.as_str();
    let name = path.rsplit('/').next().unwrap_or(path);
    let detail = match name {
        "conftest.py" => "pytest loads it before the tests".to_owned(),
        "sitecustomize.py" | "usercustomize.py" => {
            "Python loads it before anything else".to_owned()
        }
        _ if has_extension(name, "pth") => "Python runs it at its start".to_owned(),
        _ if path
            .split('/')
            .any(|part| part == "node_modules" || part == "site-packages") =>
        {
            "an installed tool or library in the repository".to_owned()
        }
        _ => {
            if let Some(module) = shadowed_module(path) {
                format!("loaded in place of the module `{module}`")
            } else if name.ends_with("_test.go") && adds(file, "func TestMain(") {
                "`TestMain` decides whether and how tests run".to_owned()
            } else {
                return None;
            }
        }
    };
    Some(JudgeChange {
        class: Class::StartupCode,
        path: path.to_owned(),
        line: 0,
        detail,
    })
}

fn adds(file: &ChangedFile, text: &str) -> bool {
    file.after
        .as_deref()
        .is_some_and(|after| after.contains(text))
        && file.before != file.after
}

fn has_extension(name: &str, extension: &str) -> bool {
    std::path::Path::new(name)
        .extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The module that a file at a module root hides.
fn shadowed_module(path: &str) -> Option<&str> {
    let (folder, module) = match path.strip_suffix("/__init__.py") {
        Some(package) => package.rsplit_once('/').unwrap_or(("", package)),
        None => {
            let stem = path
                .strip_suffix(".py")
                .or_else(|| path.strip_suffix(".so"))
                .or_else(|| path.strip_suffix(".pyc"))?;
            stem.rsplit_once('/').unwrap_or(("", stem))
        }
    };
    (MODULE_ROOTS.contains(&folder)
        && PYTHON_MODULES
            .split_whitespace()
            .any(|known| known == module))
    .then_some(module)
}
