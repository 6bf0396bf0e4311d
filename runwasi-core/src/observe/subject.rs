//! Identity of a container in the lines of the log: its ids, and its pod by the annotations of the
//! CRI.

use std::collections::HashMap;

use crate::id::Id;

const POD_NAME: &str = "io.kubernetes.cri.sandbox-name";
const POD_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";

/// Longest name of a pod or of its namespace in Kubernetes, in bytes. Annotations are untrusted.
const MAX_NAME: usize = 253;

/// Identity of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Namespace in containerd.
    pub namespace: Id,
    /// The container.
    pub container: Id,
    /// Id of its sandbox; that of the container if it has a sandbox of its own.
    pub sandbox: Id,
    /// Its pod. Absent without the annotations of the CRI.
    pub pod: Option<Pod>,
}

/// Names of a Kubernetes pod, at most 253 bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name of the pod.
    pub name: String,
    /// Namespace of the pod in Kubernetes.
    pub namespace: String,
}

impl Subject {
    /// The container of these annotations.
    pub fn new(
        (namespace, sandbox): (&Id, &Id),
        container: &Id,
        annotations: &HashMap<String, String>,
    ) -> Self {
        Self {
            namespace: namespace.clone(),
            container: container.clone(),
            sandbox: sandbox.clone(),
            pod: Pod::of(annotations),
        }
    }

    pub(super) fn pod_name(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| pod.name.as_str())
    }

    pub(super) fn pod_namespace(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| pod.namespace.as_str())
    }
}

impl Pod {
    fn of(annotations: &HashMap<String, String>) -> Option<Self> {
        let name = bounded(annotations.get(POD_NAME)?);
        let namespace = annotations.get(POD_NAMESPACE).map_or("", |namespace| bounded(namespace));
        Some(Self { name: name.to_owned(), namespace: namespace.to_owned() })
    }
}

fn bounded(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_pod_come_from_annotations_and_are_bounded() {
        let id = Id::parse("id", "c").unwrap();
        let pod = |annotations: &[(&str, &str)]| {
            let annotations =
                annotations.iter().map(|(key, value)| ((*key).into(), (*value).into()));
            Subject::new((&id, &id), &id, &annotations.collect()).pod
        };
        assert_eq!(pod(&[]), None);
        assert_eq!(pod(&[(POD_NAMESPACE, "default")]), None);
        let web = Pod { name: "web".to_owned(), namespace: "default".to_owned() };
        assert_eq!(pod(&[(POD_NAME, "web"), (POD_NAMESPACE, "default")]), Some(web));
        let long = pod(&[(POD_NAME, &"ä".repeat(1000))]).unwrap();
        assert_eq!((long.name.len(), long.namespace.len()), (252, 0));
    }
}
