//! What CI fetches is pinned, what it runs is YAML, and no pull request comes near a secret.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A workflow that is not YAML does not run, and says so only where nobody looks.
#[test]
fn every_yaml_file_parses() {
    let mut checked = 0;
    for folder in [".github", ".github/workflows", "deploy/prometheus", "deploy/grafana", "."] {
        for entry in fs::read_dir(root().join(folder)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                let parsed =
                    yaml_rust2::YamlLoader::load_from_str(&fs::read_to_string(&path).unwrap());
                assert!(
                    parsed.is_ok_and(|documents| !documents.is_empty()),
                    "{} is not YAML",
                    path.display()
                );
                checked += 1;
            }
        }
    }
    assert!(checked >= 7, "only {checked} files were found");
}

/// What CI fetches cannot change under its name, and no pull request comes near a secret.
#[test]
fn workflows_are_pinned_and_keep_secrets_from_pull_requests() {
    let is_hex = |text: &str| text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit());
    let mut actions = 0;
    for entry in fs::read_dir(root().join(".github/workflows")).unwrap().flatten() {
        let (path, text) = (entry.path(), fs::read_to_string(entry.path()).unwrap());
        let fails = |line: &str| panic!("{}: {line}", path.display());
        assert!(!text.contains("pull_request_target"), "{} runs beside a secret", path.display());
        for line in text.lines() {
            if let Some((_, version)) =
                line.split_once("uses: ").and_then(|(_, uses)| uses.split_once('@'))
            {
                actions += 1;
                if !version.split_once(" # v").is_some_and(|(commit, _)| is_hex(commit)) {
                    fails(line);
                }
            }
            // What is here is its own version.
            let is_ours = line.contains(" --path .");
            if line.contains("cargo install ") && !line.contains(" --version ") && !is_ours {
                fails(line);
            }
            if let Some((_, tools)) = line.split_once("pip install ")
                && !tools.split(' ').all(|tool| tool.contains("=="))
            {
                fails(line);
            }
        }
        // Those of an environment are given to main alone, once its reviewers say so.
        let secrets = text.split("secrets.").skip(1).any(|rest| !rest.starts_with("GITHUB_TOKEN"));
        let parsed = yaml_rust2::YamlLoader::load_from_str(&text).unwrap();
        let triggers = parsed[0]["on"].as_hash().unwrap();
        let dispatched =
            triggers.keys().all(|trigger| trigger.as_str() == Some("workflow_dispatch"));
        let guarded = dispatched && text.contains("environment: production-gate");
        assert!(!secrets || guarded, "{} has secrets without an environment", path.display());
    }
    assert!(actions > 15, "only {actions} actions were found");
    let mut images = Command::new("bash");
    let images =
        images.args(["deploy/pin-images.sh", "--check"]).current_dir(root()).output().unwrap();
    assert!(images.status.success(), "{}", String::from_utf8_lossy(&images.stdout));
}
