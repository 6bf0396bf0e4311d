//! The configuration of a container in short, from its bundle: for `inspect` and reports of faults.
//!
//! The bundle's `config.json` is untrusted. Of environment variables only the names are kept: their
//! values are where secrets are.

use std::path::Path;

use runwasi_core::regular_file::read_regular;
use serde_json::{Value, json};

use super::text;

/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Facts of a `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConfigFacts {
    pub(super) args: Vec<String>,
    cwd: String,
    user: String,
    /// Names of the environment variables.
    env: Vec<String>,
    /// Names and values.
    pub(super) annotations: Vec<(String, String)>,
    /// Destinations of the mounts.
    mounts: Vec<String>,
    read_only: bool,
    terminal: bool,
}

/// Reads the configuration in a bundle.
pub(super) fn read(bundle: &str) -> Result<ConfigFacts, String> {
    if bundle.is_empty() {
        return Err("the bundle is not known".to_owned());
    }
    let path = Path::new(bundle).join("config.json");
    let bytes = read_regular(&path, MAX_BYTES).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok(facts(&value))
}

fn facts(config: &Value) -> ConfigFacts {
    let process = &config["process"];
    let number = |name: &str| process["user"][name].as_u64().unwrap_or_default();
    let annotations = config["annotations"].as_object().into_iter().flatten();
    let mut annotations: Vec<_> =
        annotations.map(|(name, value)| (name.clone(), string(value))).collect();
    annotations.sort();
    let env = strings(&process["env"]);
    let names = env.iter().map(|one| one.split('=').next().unwrap_or_default().to_owned());
    let mounts = config["mounts"].as_array().into_iter().flatten();
    ConfigFacts {
        args: strings(&process["args"]),
        cwd: string(&process["cwd"]),
        user: format!("{}:{}", number("uid"), number("gid")),
        env: names.collect(),
        annotations,
        mounts: mounts.map(|mount| string(&mount["destination"])).collect(),
        read_only: config["root"]["readonly"].as_bool().unwrap_or_default(),
        terminal: process["terminal"].as_bool().unwrap_or_default(),
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(string).collect()
}

impl ConfigFacts {
    /// For people, one line each.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        // Quoted where a space would make two of one.
        let args: Vec<_> = self.args.iter().map(|arg| quoted(arg)).collect();
        let mut fields = vec![
            ("arguments", args.join(" ")),
            ("directory", text::cell(&self.cwd)),
            ("user", self.user.clone()),
            ("variables", text::cell(&self.env.join(","))),
            ("mounts", text::cell(&self.mounts.join(","))),
            ("root", if self.read_only { "read-only" } else { "writable" }.to_owned()),
        ];
        if self.terminal {
            fields.push(("terminal", "yes".to_owned()));
        }
        for (name, value) in &self.annotations {
            fields.push(("annotation", text::line(&format!("{name}={value}"))));
        }
        fields
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let annotations: serde_json::Map<String, Value> =
            self.annotations.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "args": self.args,
            "cwd": self.cwd,
            "user": self.user,
            "env_names": self.env,
            "annotations": annotations,
            "mounts": self.mounts,
            "root_read_only": self.read_only,
            "terminal": self.terminal,
        })
    }
}

fn quoted(argument: &str) -> String {
    let plain = !argument.is_empty() && !argument.contains([' ', '"', '\'']);
    if plain { text::line(argument) } else { text::line(&format!("{argument:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "process": {"args": ["/app", "two words"], "cwd": "/", "terminal": true,
            "user": {"uid": 1000, "gid": 100}, "env": ["PATH=/bin", "TOKEN=hunter2", "BARE"]},
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [{"destination": "/data"}, {"destination": "/proc"}],
        "annotations": {"b": "2\u001b", "a": "1"}}"#;

    #[test]
    fn values_of_variables_are_not_kept() {
        let facts = facts(&serde_json::from_str(CONFIG).unwrap());
        let text = text::fields(&facts.fields());
        for part in [
            "arguments   /app \"two words\"\n",
            "user        1000:100\n",
            "variables   PATH,TOKEN,BARE\n",
            "mounts      /data,/proc\n",
            "root        read-only\n",
            "terminal    yes\n",
            "annotation  a=1\nannotation  b=2\\u{1b}\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = facts.json();
        assert_eq!((&json["cwd"], &json["env_names"][1]), (&json!("/"), &json!("TOKEN")));
        assert!(!format!("{text}{json}").contains("hunter2"));
    }

    #[test]
    fn odd_configurations_are_read_as_far_as_they_go() {
        for odd in ["{}", "[]", "null", r#"{"process": {"args": 3, "env": [1]}, "mounts": {}}"#] {
            facts(&serde_json::from_str(odd).unwrap());
        }
        assert!(read("").is_err());
        let bundle = tempfile::tempdir().unwrap();
        let name = bundle.path().to_str().unwrap();
        assert!(read(name).unwrap_err().contains("No such file"));
        std::fs::write(bundle.path().join("config.json"), "{").unwrap();
        assert!(read(name).is_err());
    }
}
