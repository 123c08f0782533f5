//! Catalogues and rendering, from folders on disk and from the binary.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use super::*;

fn subject(name: &str) -> Subject {
    Subject::new(name, "", "", &[])
}

fn write(root: &Path, place: &str, content: &str) {
    let path = root.join(place);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A folder with one template `own`, from its manifest and files.
fn folder(manifest: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "own/template.yaml", manifest);
    for (place, content) in files {
        write(root.path(), &format!("own/files/{place}"), content);
    }
    root
}

fn load(root: &tempfile::TempDir) -> Result<Catalog, String> {
    Catalog::load(Some(root.path())).map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn render(catalog: &Catalog, given: &[(&str, &str)]) -> Result<Vec<RenderedFile>, RenderError> {
    let template = catalog.get("own").unwrap();
    let given: BTreeMap<String, String> = given
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let values = template.manifest().resolve(&given).unwrap();
    template.render(&subject("shop"), &values)
}

fn paths(files: &[RenderedFile]) -> Vec<String> {
    files.iter().map(|file| file.path.to_string()).collect()
}

const PLAIN: &str = "version: 1\ndescription: x\n";

#[test]
fn the_built_in_templates_are_sound() {
    let catalog = Catalog::load(None).unwrap();
    let names: Vec<_> = catalog.names().collect();
    assert_eq!(
        names,
        ["node-http", "python-http", "rust-http", "static-site"]
    );
    for template in catalog.templates() {
        assert!(!template.manifest().description.is_empty());
        assert!(template.manifest().dependencies.is_empty());
    }
}

#[test]
fn the_same_input_gives_the_same_files() {
    let catalog = Catalog::load(None).unwrap();
    let given = |port: &str| BTreeMap::from([("port".to_owned(), port.to_owned())]);
    for template in catalog.templates() {
        let render = |name: &str, port: &str| {
            let values = template.manifest().resolve(&given(port)).unwrap();
            template.render(&subject(name), &values).unwrap()
        };
        let first = render("shop", "9000");
        assert_eq!(first, render("shop", "9000"));
        assert_ne!(first, render("shop", "9001"), "{}", template.name());
        assert_ne!(first, render("shops", "9000"), "{}", template.name());
        assert!(first.is_sorted_by(|a, b| a.path < b.path));
        for place in [
            "README.md",
            ".gitignore",
            ".agentic/project.yaml",
            ".agentic/gates.yaml",
            "Dockerfile",
        ] {
            assert!(paths(&first).contains(&place.to_owned()), "{place}");
        }
    }
}

#[test]
fn the_two_python_templates_share_their_test_runner() {
    let catalog = Catalog::load(None).unwrap();
    let file = |template: &str, place: &str| {
        let template = catalog.get(template).unwrap();
        let file = template.files.iter().find(|file| file.place == place);
        file.unwrap().content.clone()
    };
    for place in [
        "tests/__main__.py",
        "tests/coverage.py",
        "tests/junit.py",
        "app/__main__.py",
        "app/service.py",
        "app/healthcheck.py",
        "app/settings.py.j2",
    ] {
        assert_eq!(
            file("python-http", place),
            file("static-site", place),
            "{place}"
        );
    }
}

#[test]
fn an_unknown_template_is_answered_with_the_nearest_and_the_list() {
    let catalog = Catalog::load(None).unwrap();
    let error = catalog.get("pyhton-http").unwrap_err();
    assert_eq!(error.nearest.as_deref(), Some("python-http"));
    assert_eq!(
        error.to_string(),
        "there is no template \"pyhton-http\" (did you mean python-http?); \
         there are node-http, python-http, rust-http, static-site"
    );
    assert_eq!(catalog.get("").unwrap_err().nearest, None);
}

#[test]
fn a_folder_adds_templates_with_their_modes() {
    let root = folder(
        PLAIN,
        &[
            ("run.sh.j2", "#!/bin/sh\necho {{ name }}\n"),
            ("{{ name }}/as-is.txt", "{{ name }}\r\n"),
            ("empty", ""),
        ],
    );
    write(root.path(), "README.md", "about these templates");
    let script = root.path().join("own/files/run.sh.j2");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let catalog = load(&root).unwrap();
    let files = render(&catalog, &[]).unwrap();
    assert_eq!(paths(&files), ["empty", "run.sh", "shop/as-is.txt"]);
    assert_eq!(files[1].content, b"#!/bin/sh\necho shop\n");
    assert!(files[1].executable && !files[2].executable);
    assert_eq!(files[2].content, b"{{ name }}\r\n");
}

#[test]
fn optional_places_follow_their_parameter() {
    let manifest = "version: 1\ndescription: x\nparameters: {docker: {type: boolean, default: true}}\n\
                    optional: [{path: deploy/, when: docker}, {path: Dockerfile, when: docker}]\n";
    let root = folder(
        manifest,
        &[
            ("Dockerfile.j2", "x"),
            ("deploy/a/b", "x"),
            ("deployed", "x"),
        ],
    );
    let catalog = load(&root).unwrap();
    let with = render(&catalog, &[]).unwrap();
    assert_eq!(paths(&with), ["Dockerfile", "deploy/a/b", "deployed"]);
    let without = render(&catalog, &[("docker", "false")]).unwrap();
    assert_eq!(paths(&without), ["deployed"]);
}

#[test]
fn a_wrong_template_refuses_the_whole_catalogue_and_says_why() {
    for (manifest, files, why) in [
        (PLAIN, &[][..], "files"),
        ("version: 1", &[("a", "")], "description"),
        (PLAIN, &[("a.j2", "{{ nmae }}")], "a.j2: line 1: undefined"),
        (
            PLAIN,
            &[("a.j2", "{% if name %}")],
            "a.j2: line 1: syntax error",
        ),
        (
            PLAIN,
            &[("a.j2", "{% if nmae %}{% endif %}")],
            "a.j2: line 1: undefined",
        ),
        (PLAIN, &[("a.j2", "{{ name | jsn }}")], "jsn"),
        (PLAIN, &[("{{ nmae }}", "")], "undefined"),
        (PLAIN, &[("a", ""), ("a.j2", "")], "a.j2: a is taken"),
        (PLAIN, &[("{{ name }}", ""), ("sample/b", "")], "sample"),
        (
            PLAIN,
            &[("{{ features | first | replace('One', '..') }}/a", "")],
            "refused",
        ),
        (PLAIN, &[("{{ '/' }}etc/a", "")], "refused"),
        (PLAIN, &[("{{ '' }}/a", "")], "refused"),
        (PLAIN, &[(".git/hooks/pre-commit", "")], "refused"),
    ] {
        let root = folder(manifest, files);
        fs::create_dir_all(root.path().join("own/files")).unwrap();
        let error = load(&root).expect_err(why);
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn nothing_outside_a_template_gets_in() {
    let root = folder(PLAIN, &[("a", "")]);
    symlink("/etc/passwd", root.path().join("own/files/link")).unwrap();
    assert!(load(&root).unwrap_err().contains("links are not followed"));

    let root = folder(PLAIN, &[("a", "")]);
    symlink("/etc", root.path().join("own/files/folder")).unwrap();
    assert!(load(&root).unwrap_err().contains("links are not followed"));

    let root = folder(PLAIN, &[("a", "")]);
    symlink(root.path().join("own"), root.path().join("other")).unwrap();
    assert!(load(&root).unwrap_err().contains("links are not followed"));
}

#[test]
fn names_of_templates_are_unique_and_plain() {
    let root = folder(PLAIN, &[("a", "")]);
    write(root.path(), "Own_2/template.yaml", PLAIN);
    write(root.path(), "Own_2/files/a", "");
    assert!(load(&root).unwrap_err().contains("Own_2"));

    let root = tempfile::tempdir().unwrap();
    write(root.path(), "rust-http/template.yaml", PLAIN);
    write(root.path(), "rust-http/files/a", "");
    assert!(
        load(&root)
            .unwrap_err()
            .contains("rust-http is there twice")
    );

    assert!(Catalog::load(Some(Path::new("/no/such/folder"))).is_err());
}

#[test]
fn a_file_that_is_not_utf8_is_copied_but_not_rendered() {
    let root = folder(PLAIN, &[]);
    let place = root.path().join("own/files");
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("logo.png"), [0xff, 0xfe, 0]).unwrap();
    let files = render(&load(&root).unwrap(), &[]).unwrap();
    assert_eq!(files[0].content, [0xff, 0xfe, 0]);
    fs::write(place.join("page.j2"), [0xff, 0xfe, 0]).unwrap();
    assert!(load(&root).unwrap_err().contains("UTF-8"));
}

#[test]
fn what_grows_beyond_the_limit_when_rendered_is_refused() {
    let root = folder(
        PLAIN,
        &[(
            "a.j2",
            "{% for i in range(5000) %}{{ requirements }}{% endfor %}",
        )],
    );
    let catalog = load(&root).unwrap();
    let template = catalog.get("own").unwrap();
    let long = Subject::new("shop", "", &"x".repeat(60_000), &[]);
    let error = template.render(&long, &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, RenderError::TooLarge { .. }), "{error}");
}

#[test]
fn text_is_escaped_for_html_by_the_files_ending() {
    let content = "<p>{{ description }}</p>";
    let root = folder(
        PLAIN,
        &[
            ("a.html.j2", content),
            ("a.svg.j2", content),
            ("a.txt.j2", content),
        ],
    );
    let catalog = load(&root).unwrap();
    let subject = Subject::new("shop", "<script>\"'&", "", &[]);
    let files = catalog
        .get("own")
        .unwrap()
        .render(&subject, &BTreeMap::new())
        .unwrap();
    let text = |index: usize| String::from_utf8(files[index].content.clone()).unwrap();
    assert_eq!(text(0), "<p>&lt;script&gt;&quot;&#x27;&amp;</p>");
    assert_eq!(text(1), text(0));
    assert_eq!(text(2), "<p><script>\"'&</p>");
}
