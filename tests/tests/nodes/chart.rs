//! The Helm chart, whose default values must give the manifests of `deploy/manifests`.
//!
//! There is no Helm among the packages that tests may have. So the templates keep to four forms, which this file renders:
//! `{{ .Values.a.b }}`, `{{ .Release.Namespace }}`, `{{- if .Values.a }}` with `{{- end }}` on lines of their own, and the list
//! of arguments. Any other form fails the test.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_yaml_ng::Value;

use crate::fixture::project;
use crate::manifests::{DaemonSet, RuntimeClass, documents, of_kind, text};

/// The one expression with a function: the command of the installer and its arguments.
const ARGUMENTS: &str = "prepend .Values.arguments .Values.mode | toJson";

const CHART: &str = "helm/runwasi-node";

/// The value of an expression.
fn evaluate(expression: &str, values: &Value, namespace: &str) -> Result<String> {
    let value = |path: &str| -> Result<Value> {
        let found = path.split('.').try_fold(values, |value, key| value.get(key));
        found.cloned().with_context(|| format!("values.yaml has no {path}"))
    };
    if expression == ".Release.Namespace" {
        return Ok(namespace.to_owned());
    }
    if expression == ARGUMENTS {
        let mut words = vec![value("mode")?];
        words.extend(value("arguments")?.as_sequence().context("arguments is no list")?.clone());
        return Ok(serde_json::to_string(&words)?);
    }
    let path = expression.strip_prefix(".Values.").filter(|path| !path.contains(' '));
    let found =
        value(path.with_context(|| format!("{{{{ {expression} }}}}: not a form of this chart"))?)?;
    Ok(match found {
        Value::String(text) => text,
        Value::Bool(is) => is.to_string(),
        other => bail!("{expression} is {other:?}"),
    })
}

fn render(template: &str, values: &Value, namespace: &str) -> Result<String> {
    let (mut rendered, mut kept) = (String::new(), vec![true]);
    for line in template.lines() {
        if let Some(condition) =
            line.strip_prefix("{{- if ").and_then(|line| line.strip_suffix(" }}"))
        {
            kept.push(evaluate(condition, values, namespace)? == "true");
        } else if line == "{{- end }}" {
            kept.pop();
        } else if kept.iter().all(|kept| *kept) {
            let mut rest = line;
            while let Some((before, after)) = rest.split_once("{{ ") {
                let (expression, after) = after.split_once(" }}").context(line.to_owned())?;
                rendered.push_str(before);
                rendered.push_str(&evaluate(expression, values, namespace)?);
                rest = after;
            }
            rendered.push_str(rest);
            rendered.push('\n');
        }
    }
    ensure!(kept == [true], "an if without its end");
    Ok(rendered)
}

fn values() -> Result<Value> {
    Ok(serde_yaml_ng::from_str(&text(&format!("{CHART}/values.yaml"))?)?)
}

fn rendered(template: &str, values: &Value) -> Result<Vec<Value>> {
    let template = text(&format!("{CHART}/templates/{template}"))?;
    documents(&render(&template, values, "runwasi-system")?)
}

#[test]
fn default_values_give_the_manifests() -> Result<()> {
    let values = values()?;
    let chart: Vec<DaemonSet> = of_kind(&rendered("daemonset.yaml", &values)?, "DaemonSet")?;
    let manifest: Vec<DaemonSet> =
        of_kind(&documents(&text("manifests/install.yaml")?)?, "DaemonSet")?;
    ensure!(chart.len() == 1 && chart == manifest, "{chart:?}\nis not\n{manifest:?}");
    let chart: Vec<RuntimeClass> =
        of_kind(&rendered("runtimeclasses.yaml", &values)?, "RuntimeClass")?;
    let manifest: Vec<RuntimeClass> =
        of_kind(&documents(&text("manifests/runtimeclasses.yaml")?)?, "RuntimeClass")?;
    ensure!(chart.len() == 2 && chart == manifest, "{chart:?}\nis not\n{manifest:?}");
    Ok(())
}

#[test]
fn mode_uninstall_gives_the_manifest_that_uninstalls() -> Result<()> {
    let mut values = values()?;
    values["mode"] = "uninstall".into();
    let chart: Vec<DaemonSet> = of_kind(&rendered("daemonset.yaml", &values)?, "DaemonSet")?;
    let manifest: Vec<DaemonSet> =
        of_kind(&documents(&text("manifests/uninstall.yaml")?)?, "DaemonSet")?;
    ensure!(chart.len() == 1 && chart == manifest, "{chart:?}\nis not\n{manifest:?}");
    Ok(())
}

#[test]
fn runtime_classes_can_be_left_out() -> Result<()> {
    let mut values = values()?;
    values["runtimeClasses"]["create"] = false.into();
    let left = rendered("runtimeclasses.yaml", &values)?;
    ensure!(left.iter().all(Value::is_null), "{left:?}");
    Ok(())
}

#[test]
fn chart_has_the_version_of_the_project_and_no_template_that_is_not_tested() -> Result<()> {
    let chart: Value = serde_yaml_ng::from_str(&text(&format!("{CHART}/Chart.yaml"))?)?;
    let version = env!("CARGO_PKG_VERSION");
    ensure!(chart["version"] == version && chart["appVersion"] == version, "{chart:?}");
    let templates = fs::read_dir(project().join("deploy").join(CHART).join("templates"))?;
    let mut names: Vec<_> = templates.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    ensure!(names == ["NOTES.txt", "daemonset.yaml", "runtimeclasses.yaml"], "{names:?}");
    Ok(())
}
